/*
 * awaitable.h - awaitable types that return their value without raising StopIteration.
 *
 * `am_send` returns the value of a completed awaitable. Python 3.12 and later call `tp_iternext` instead, which passes
 * the value in a StopIteration without a traceback. Cython can define neither slot for a cdef class, so they are set
 * here. All functions need the GIL.
 */
#ifndef AIOFS_AWAITABLE_H
#define AIOFS_AWAITABLE_H

#include <Python.h>

/* A tp_iternext that calls the am_send of the type. */
PyObject *next_by_send(PyObject *awaitable);

/* Makes `send` the am_send of a type, and next_by_send its tp_iternext. */
void type_set_send(PyTypeObject *type, int (*send)(PyObject *, PyObject *, PyObject **));

/* Makes `next` the am_anext of a type that Python code has derived. Else a lookup of __anext__ would precede each call. */
void type_set_anext(PyTypeObject *type, PyObject *(*next)(PyObject *));

#endif
