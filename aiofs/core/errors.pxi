# The exceptions of the core.
#
# The functions of the engine return negated errnos. make_error chooses the class of aiofs.errors for one. The text of
# an exception names the operation and the path or descriptor.

cdef object make_error(long error, object target, str doing, str reason=None):
    """The exception for a positive errno. `doing`: the operation; `target`: its path or descriptor; `reason`: the
    cause, if it is known better than the errno says."""
    return errors.from_errno(error, target, doing, reason)
