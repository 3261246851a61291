/*
 * aio_batch.c - lio_listio: the entries that the engine carries out, submitted in batches.
 *
 * Ownership. The call owns its batch, on its stack. The count of the list includes each entry from aiofs_list_put until
 * its completion. The call releases its share of the list in aiofs_list_finish.
 *
 * Locking. None.
 */
#define _GNU_SOURCE
#include "aio_rules.h"

bool aiofs_list_put(struct aiofs_list_call *call, aiofs_aio *aio, aiofs_file *file)
{
    aio->ending.list = call->list;
    aiofs_list_join(call->list);
    call->batch[call->count++] = (struct aiofs_batch_entry){&aio->request, file, 0};
    return call->count == AIOFS_LIST_BATCH;
}

void aiofs_list_submit(struct aiofs_list_call *call)
{
    aiofs_submit_many(call->batch, call->count);
    for (size_t i = 0; i < call->count; i++)
        if (call->batch[i].error < 0)
            aiofs_aio_end((aiofs_aio *)call->batch[i].request, call->batch[i].error);
    call->count = 0;
}

int aiofs_list_finish(struct aiofs_list_call *call)
{
    aiofs_list *list = call->list;
    if (call->count > 0)
        aiofs_list_submit(call);
    aiofs_list_ended(list, 0);
    int error = call->waits ? aiofs_list_wait(list) : 0;
    aiofs_list_release(list);
    return error;
}
