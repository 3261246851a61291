# The exceptions of the core: an errno of the engine, and what is known of it beside.
#
# The engine gives negated numbers; here they become the classes of aiofs.errors. An exception names what was being
# done, and the path or descriptor.

cdef object make_error(long error, object target, str doing, str reason=None):
    """The exception for a (positive) errno: `doing` what, to which path or descriptor, and the reason
    where more is known than the errno says."""
    return errors.from_errno(error, target, doing, reason)
