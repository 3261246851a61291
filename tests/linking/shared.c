/*
 * shared.c - an extension module in C that includes aiofs.h with AIOFS_REPLACE_AIO: its aio_read is that of aiofs.
 *
 * The module owns one request and its memory, which are static. The test reuses them when the request is complete.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <string.h>

#define AIOFS_REPLACE_AIO
#include <aiofs.h>

static struct aiocb cb;
static char bytes[16];

static PyObject *start_read(PyObject *module, PyObject *fd)
{
    (void)module;
    memset(&cb, 0, sizeof cb);
    cb.aio_fildes = PyLong_AsLong(fd);
    cb.aio_buf = bytes;
    cb.aio_nbytes = sizeof bytes;
    return PyLong_FromLong(aio_read(&cb));
}

static PyObject *error(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    return PyLong_FromLong(aio_error(&cb));
}

static PyObject *result(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    ssize_t size = aio_return(&cb);
    return Py_BuildValue("ny#", size, bytes, size < 0 ? 0 : size);
}

static PyObject *suspend(PyObject *module, PyObject *none)
{
    (void)module, (void)none;
    const struct aiocb *const list[] = {&cb};
    const struct timespec limit = {.tv_sec = 20};
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = aio_suspend(list, 1, &limit);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(status);
}

static PyObject *cancel(PyObject *module, PyObject *fd)
{
    (void)module;
    int number = PyLong_AsLong(fd), answer;
    Py_BEGIN_ALLOW_THREADS
    answer = aio_cancel(number, NULL);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(answer);
}

static PyObject *open_file(PyObject *module, PyObject *arguments)
{
    const char *volume, *path;
    int flags;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "yyi", &volume, &path, &flags))
        return NULL;
    int fd = aiofs_open(volume, path, flags, 0666);
    return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

static PyObject *close_file(PyObject *module, PyObject *fd)
{
    (void)module;
    return aiofs_close(PyLong_AsLong(fd)) < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(0);
}

static PyMethodDef functions[] = {
    {"read", start_read, METH_O, NULL},     {"error", error, METH_NOARGS, NULL},
    {"result", result, METH_NOARGS, NULL},  {"suspend", suspend, METH_NOARGS, NULL},
    {"cancel", cancel, METH_O, NULL},       {"open", open_file, METH_VARARGS, NULL},
    {"close", close_file, METH_O, NULL},    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "shared_c", .m_methods = functions};

PyMODINIT_FUNC PyInit_shared_c(void);

PyMODINIT_FUNC PyInit_shared_c(void)
{
    return PyModule_Create(&definition);
}
