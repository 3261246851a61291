/* submission.c - the hooks that the engine calls, on any thread, without the GIL. */
#include <stdlib.h>

#include "core/completions.h"
#include "core/submission.h"

static void submission_done(aiofs_request *request)
{
    aiofs_submission *submission = (aiofs_submission *)request;
    aiofs_group *group = submission->group;
    notice_give(&submission->notice);
    post_completion(submission);
    group_count_down(group);
}

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
        submission->request.done = submission_done;
        submission->request.destroy = submission_destroy;
        submission->notice.kind = SIGEV_NONE;
    }
    return submission;
}
