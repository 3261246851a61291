# Notices and lists: core/notice.h.

cdef extern from "<signal.h>" nogil:
    int C_SIGEV_SIGNAL "SIGEV_SIGNAL"
    int C_SIGEV_NONE "SIGEV_NONE"
    int C_SIGEV_THREAD "SIGEV_THREAD"

cdef extern from "core/submission.h" nogil:
    ctypedef struct aiofs_submission

cdef extern from "core/notice.h" nogil:
    ctypedef struct aiofs_notice:
        int kind
        PyObject *function
        PyObject *value
        PyObject *context

    ctypedef struct aiofs_group:
        aiofs_submission *last_word

    int C_SIGEV_LOOP "SIGEV_LOOP"

    int notice_prepare(aiofs_notice *notice)
    void notice_unprepare(aiofs_notice *notice)
    void notice_give(aiofs_notice *notice)
    void notice_set_signal(aiofs_notice *notice, int signo, int64_t value)
    aiofs_group *group_new(int remaining, aiofs_submission *last_word)
    void group_add(aiofs_group *group)
    void group_count_down(aiofs_group *group)
