# The exceptions of the core.

cdef object errors = None  # aiofs.errors, imported when first needed


cdef object make_error(long error, object target, str doing, str reason=None):
    """The exception for a (positive) errno: `doing` what, to which path or descriptor, and the reason
    where more is known than the errno says."""
    global errors
    if errors is None:
        from aiofs import errors as module
        errors = module
    return errors.from_errno(error, target, doing, reason)
