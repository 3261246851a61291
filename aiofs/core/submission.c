/* submission.c - allocates and frees submissions. The engine calls `destroy` on any thread, without the GIL. */
#include <stdlib.h>

#include "core/submission.h"

static void submission_destroy(aiofs_request *request)
{
    aiofs_submission *submission = (aiofs_submission *)request;
    free(submission->views);
    free(submission->vector);
    free(submission);
}

aiofs_submission *submission_new(void)
{
    aiofs_submission *submission = calloc(1, sizeof *submission);
    if (submission) {
        aiofs_request_init(&submission->request);
        submission->request.done = aiofs_aio_done;
        submission->request.destroy = submission_destroy;
        notice_clear(submission);
    }
    return submission;
}
