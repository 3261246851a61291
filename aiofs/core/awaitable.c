/* awaitable.c - see awaitable.h. */
#include "core/awaitable.h"

/* The value is passed in a StopIteration. A tuple or an exception is wrapped first, because PyErr_SetObject would take
 * a tuple as the arguments, and an exception as the StopIteration itself. */
PyObject *next_by_send(PyObject *awaitable)
{
    PyObject *value = NULL;
    PySendResult sent = Py_TYPE(awaitable)->tp_as_async->am_send(awaitable, Py_None, &value);
    if (sent == PYGEN_NEXT)
        return value;
    if (sent == PYGEN_RETURN) {
        if (PyTuple_Check(value) || PyExceptionInstance_Check(value))
            Py_SETREF(value, PyObject_CallOneArg(PyExc_StopIteration, value));
        if (value != NULL)
            PyErr_SetObject(PyExc_StopIteration, value);
        Py_XDECREF(value);
    }
    return NULL;
}

void type_set_send(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **))
{
    type->tp_as_async->am_send = (sendfunc)(void (*)(void))send;
    type->tp_iternext = next_by_send;
#ifdef Py_TPFLAGS_HAVE_AM_SEND
    type->tp_flags |= Py_TPFLAGS_HAVE_AM_SEND;
#endif
    PyType_Modified(type);
}

void type_set_anext(PyTypeObject *type, PyObject *(*next)(PyObject *))
{
    type->tp_as_async->am_anext = next;
    PyType_Modified(type);
}
