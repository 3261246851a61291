# The exceptions of the core: errors.pxi.

cdef object make_error(long error, object target, str doing, str reason=*)
