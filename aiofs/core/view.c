/* view.c - see view.h. */
#include "core/view.h"

/* A memoryview and all views made of it share one managed buffer, whose tp_clear releases it for all of them: what the
 * garbage collector calls to break a cycle. */
int view_end(PyObject *view)
{
    PyObject *managed = Py_NewRef((PyObject *)((PyMemoryViewObject *)view)->mbuf);
    PyObject *released = PyObject_CallMethod(view, "release", NULL);
    if (released)
        Py_TYPE(managed)->tp_clear(managed);
    Py_DECREF(managed);
    Py_XDECREF(released);
    return released ? 0 : -1;
}
