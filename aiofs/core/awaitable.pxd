# Awaitable types: core/awaitable.h.

cdef extern from "Python.h":
    int PYGEN_RETURN, PYGEN_NEXT

cdef extern from "core/awaitable.h":
    void type_set_send(PyTypeObject *type, int (*send)(object, object, PyObject **) except -1)
    object next_by_send(object awaitable)
    void type_set_anext(PyTypeObject *type, object (*next)(object)) noexcept
