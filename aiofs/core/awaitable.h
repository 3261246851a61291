/*
 * awaitable.h - types that are awaited without an exception for their value.
 *
 * `am_send` gives the value of an awaitable that is done as a return value. Where the interpreter asks for the next
 * item instead, as from Python 3.12 on, `tp_iternext` gives it in a StopIteration without a traceback. Cython has
 * neither for cdef classes: the two are set here. All of it is called with the GIL.
 */
#ifndef AIOFS_AWAITABLE_H
#define AIOFS_AWAITABLE_H

#include <Python.h>

/* tp_iternext by am_send. */
PyObject *next_by_send(PyObject *awaitable);

/* Makes `send` the am_send of a type, and next_by_send its tp_iternext. */
void type_set_send(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **));

#endif
