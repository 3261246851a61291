# Declarations of engine/aio_rules.h (the rules of POSIX AIO) and core/notice.h (the core's part of notices).

cdef extern from "<signal.h>" nogil:
    int C_SIGEV_SIGNAL "SIGEV_SIGNAL"
    int C_SIGEV_NONE "SIGEV_NONE"
    int C_SIGEV_THREAD "SIGEV_THREAD"

cdef extern from "engine/aio_rules.h" nogil:
    ctypedef struct aiofs_list

    ctypedef struct aiofs_notice:
        int kind

    ctypedef struct aiofs_ending:
        aiofs_notice notice

    ctypedef struct aiofs_aio:
        aiofs_ending ending

    struct aiofs_ask:
        int op
        int fd
        aiofs_file *file
        int reqprio
        iovec bytes
        int64_t offset
        bint mapped

    struct aiofs_list_call:
        bint waits

    void aiofs_notice_drop(aiofs_notice *notice)
    int aiofs_sync_op(int op)
    int aiofs_ask_check(const aiofs_ask *ask, const void *event)
    bint aiofs_ask_is_quick(const aiofs_ask *ask, const aiofs_list_call *call)
    int64_t aiofs_ask_inline(const aiofs_ask *ask, aiofs_list_call *call)
    void aiofs_aio_end(aiofs_aio *aio, int64_t result)
    int aiofs_list_op(int opcode)
    bint aiofs_list_notifies(int mode)
    int aiofs_list_check(int mode, int nent, const void *event)
    int aiofs_list_begin(aiofs_list_call *call, int mode, aiofs_notice *notice)
    void aiofs_list_note(aiofs_list_call *call, int64_t result)
    bint aiofs_list_put(aiofs_list_call *call, aiofs_aio *aio, aiofs_file *file)
    void aiofs_list_submit(aiofs_list_call *call)
    int aiofs_list_finish(aiofs_list_call *call)
    int64_t aiofs_outcome_return(int state, int64_t result, bint before)
    int aiofs_cancel_check(int fd, const int *of)

cdef extern from "core/notice.h" nogil:
    ctypedef struct aiofs_submission

    ctypedef struct aiofs_callback:
        PyObject *function
        PyObject *value
        PyObject *context

    int C_SIGEV_LOOP "SIGEV_LOOP"

    int notice_check_signal(int signo)
    int notice_prepare(aiofs_submission *submission, int kind, int signo, int64_t signal_value)
    void notice_clear(aiofs_submission *submission)

cdef extern from *:
    """
    #undef sigev_notify_function  /* a macro of <signal.h>; here the name is an attribute */
    """
