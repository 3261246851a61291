/* raising_exporter.c - an object whose buffer is given once; each later request for a view raises RuntimeError. */
#include <Python.h>

static char memory[64];
static long given, released;

static int get(PyObject *self, Py_buffer *view, int flags)
{
    if (given) {
        PyErr_SetString(PyExc_RuntimeError, "not a second time");
        return -1;
    }
    given++;
    PyBuffer_FillInfo(view, self, memory, sizeof memory, 0, flags);
    view->itemsize = sizeof(void *);
    return 0;
}

static void release(PyObject *self, Py_buffer *view)
{
    (void)self, (void)view;
    released++;
}

static PyObject *still_given(PyObject *module, PyObject *nothing)
{
    (void)module, (void)nothing;
    return PyLong_FromLong(given - released);
}

static PyBufferProcs procs = {get, release};
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "raising_exporter.Exporter",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_as_buffer = &procs,
    .tp_new = PyType_GenericNew,
};
static PyMethodDef methods[] = {{"still_given", still_given, METH_NOARGS, NULL}, {0}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "raising_exporter", .m_methods = methods};

PyMODINIT_FUNC PyInit_raising_exporter(void)
{
    PyObject *module = PyType_Ready(&type) < 0 ? NULL : PyModule_Create(&definition);
    if (module && PyModule_AddObjectRef(module, "Exporter", (PyObject *)&type) < 0)
        return NULL;
    return module;
}
