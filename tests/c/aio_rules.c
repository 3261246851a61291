/*
 * aio_rules.c - the rules of POSIX AIO alone, with a face that only records the calls of its hooks.
 */
#include "check.h"

#include <aio.h>

#include "aio_rules.h"

/* ---- the face: a state, and the order in which the hooks ran ----------------------------------------------------- */

static char happened[256];
static _Atomic int noted;

static void note(char what)
{
    happened[atomic_fetch_add(&noted, 1) % (int)sizeof happened] = what;
}

static bool was(const char *expected)
{
    bool same = EVENTUALLY(PATIENCE, noted >= (int)strlen(expected)) && noted == (int)strlen(expected) &&
                memcmp(happened, expected, strlen(expected)) == 0;
    if (!same)
        printf("      %.*s, not %s\n", (int)noted, happened, expected);
    noted = 0;
    return same;
}

struct block {
    aiofs_aio aio; /* first: a pointer to it is a pointer to the block */
    _Atomic uint32_t word;
    int64_t result;
};

static bool publish(void *control, int64_t result)
{
    struct block *block = control;
    block->result = result;
    note('s');
    return aiofs_word_end(&block->word, result);
}

static void notify(void *what)
{
    note(*(const char *)what);
}

static void drop(void *what)
{
    (void)what;
    note('d');
}

static aiofs_notice notice_of(const char *what)
{
    return (aiofs_notice){.kind = 4711, .notify = notify, .drop = drop, .face = (char *)(uintptr_t)what};
}

static struct block *block_of(const struct aiofs_ask *ask)
{
    struct block *block = calloc(1, sizeof *block);
    aiofs_request_init(&block->aio.request);
    aiofs_aio_fill(&block->aio, ask);
    block->aio.request.done = aiofs_aio_done;
    block->aio.request.destroy = (void (*)(aiofs_request *))free;
    block->aio.ending = (aiofs_ending){.control = block, .publish = publish, .notice = notice_of("n")};
    block->word = AIOFS_SUBMITTED;
    return block;
}

static void release(struct block *block)
{
    aiofs_request_release(&block->aio.request);
}

/* ---- valid arguments --------------------------------------------------------------------------------------------- */

static struct sigevent by_signal(int signo)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = signo;
    return event;
}

static void valid_arguments(void)
{
    struct aiofs_ask ask = {.op = AIOFS_READ};
    struct sigevent good = by_signal(NSIG - 1), bad = by_signal(NSIG), negative = by_signal(-1);
    CHECK(aiofs_ask_check(&ask, NULL) == 0 && aiofs_ask_check(&ask, &good) == 0, "a read");
    CHECK(aiofs_ask_check(&ask, &bad) == -EINVAL && aiofs_ask_check(&ask, &negative) == -EINVAL,
          "no such signal: EINVAL");
    bad.sigev_notify = SIGEV_NONE;
    CHECK(aiofs_ask_check(&ask, &bad) == 0, "a number that no signal will have does not count");
    for (int reqprio = -1; reqprio <= AIOFS_PRIO_DELTA_MAX + 1; reqprio += 11) {
        bool is_valid = reqprio >= 0 && reqprio <= AIOFS_PRIO_DELTA_MAX;
        ask = (struct aiofs_ask){.op = AIOFS_WRITE, .reqprio = reqprio};
        CHECK(aiofs_ask_check(&ask, NULL) == (is_valid ? 0 : -EINVAL), "reqprio %d of a write", reqprio);
        ask.op = AIOFS_FSYNC;
        CHECK(aiofs_ask_check(&ask, NULL) == 0, "aio_fsync ignores reqprio");
    }
    ask = (struct aiofs_ask){.op = AIOFS_WRITE, .reqprio = AIOFS_PRIO_DELTA_MAX + 1};
    CHECK(aiofs_ask_check(&ask, NULL) == -EINVAL, "reqprio above the highest: EINVAL");
    ask = (struct aiofs_ask){.op = aiofs_list_op(4711)};
    CHECK(aiofs_ask_check(&ask, NULL) == -EINVAL, "a bad opcode: EINVAL");
    CHECK(aiofs_list_op(LIO_READ) == AIOFS_READ && aiofs_list_op(LIO_WRITE) == AIOFS_WRITE && aiofs_list_op(LIO_NOP) == 0,
          "the opcodes");
    CHECK(aiofs_sync_op(O_SYNC) == AIOFS_FSYNC && aiofs_sync_op(O_DSYNC) == AIOFS_FDATASYNC && aiofs_sync_op(0) == -EINVAL,
          "the kinds of sync");
    CHECK(aiofs_list_check(LIO_WAIT, 0, NULL) == 0 && aiofs_list_check(LIO_NOWAIT, 1, &good) == 0, "lists");
    CHECK(aiofs_list_check(2, 1, NULL) == -EINVAL && aiofs_list_check(LIO_WAIT, -1, NULL) == -EINVAL,
          "bad mode, bad nent");
    CHECK(aiofs_list_check(LIO_NOWAIT, 1, &negative) == -EINVAL && aiofs_list_check(LIO_WAIT, 1, &negative) == 0,
          "LIO_WAIT ignores the list's sigevent");
    CHECK(aiofs_cancel_check(0, NULL) == 0 && aiofs_cancel_check(987654, NULL) == -EBADF,
          "aio_cancel of a descriptor");
    CHECK(aiofs_cancel_check(0, &(int){0}) == 0 && aiofs_cancel_check(0, &(int){1}) == -EINVAL,
          "and of a control block");
}

static void results(void)
{
    CHECK(aiofs_outcome_return(AIOFS_NEW, 0, false) == -EINVAL, "never submitted: EINVAL");
    CHECK(aiofs_outcome_return(AIOFS_SUBMITTED, 0, false) == -EINPROGRESS, "in flight: EINPROGRESS");
    CHECK(aiofs_outcome_return(AIOFS_DONE, 7, false) == 7 && aiofs_outcome_return(AIOFS_DONE, 7, true) == -EINVAL,
          "once");
    CHECK(aiofs_outcome_return(AIOFS_FAILED, -EIO, false) == -EIO, "the errno of a failure");
}

/* ---- inside the call --------------------------------------------------------------------------------------------- */

static struct aiofs_list_call begun(int mode, const char *what)
{
    struct aiofs_list_call call;
    aiofs_notice notice = what ? notice_of(what) : (aiofs_notice){.kind = SIGEV_NONE};
    int error = aiofs_list_begin(&call, mode, &notice);
    CHECK(error == 0, "a list begins");
    return call;
}

static void quick_ones(void)
{
    struct aiofs_list_call call = {.count = 0};
    struct aiofs_ask read = {.op = AIOFS_READ, .bytes = {NULL, 10}}, write = read, sync = read, large = read, late = read,
                     empty = read;
    write.op = AIOFS_WRITE;
    sync.op = AIOFS_FSYNC;
    large.bytes.iov_len = AIOFS_INLINE_MAX + 1;
    late.reqprio = 1;
    empty.bytes.iov_len = 0;
    CHECK(aiofs_ask_is_quick(&read, NULL) && aiofs_ask_is_quick(&write, NULL),
          "small reads and writes may complete inside the call");
    CHECK(!aiofs_ask_is_quick(&sync, NULL) && !aiofs_ask_is_quick(&large, NULL) && !aiofs_ask_is_quick(&late, NULL) &&
              !aiofs_ask_is_quick(&empty, NULL),
          "syncs, large requests, requests with a reqprio and empty requests do not");
    CHECK(aiofs_ask_is_quick(&write, &call), "the first write of a list may complete inside the call");
    call.count = 1;
    CHECK(aiofs_ask_is_quick(&read, &call) && !aiofs_ask_is_quick(&write, &call),
          "a write does not overtake the entries of the batch");
}

static void allowance(void)
{
    struct aiofs_list_call call = begun(LIO_NOWAIT, NULL);
    size_t copied = 0;
    call.until = INT64_MAX;
    while (aiofs_list_affords(&call, 64 * KB) && copied < 1024 * MB)
        copied += 64 * KB;
    CHECK(copied == 4 * MB, "a list copies 4 MiB inside the call (%zu)", copied);
    CHECK(!aiofs_list_affords(&call, 1), "a list copies nothing beyond 4 MiB");
    aiofs_list_finish(&call);
    call = begun(LIO_NOWAIT, NULL);
    call.until = 0;
    int count = 0;
    while (aiofs_list_affords(&call, 1) && count < 1000)
        count++;
    CHECK(count < 100, "a list copies nothing when its time is up (%d copies)", count);
    aiofs_list_finish(&call);
}

/* ---- completion -------------------------------------------------------------------------------------------------- */

static _Atomic uint32_t *word_of(const void *list, size_t index)
{
    (void)index;
    return &((struct block *)(uintptr_t)list)->word;
}

static void *sleep_on(void *block)
{
    aiofs_wait_on(word_of, block, 1, NULL);
    note('w');
    return NULL;
}

static void order_of_an_end(void)
{
    struct aiofs_list_call call = begun(LIO_NOWAIT, "l");
    struct block *block = block_of(&(struct aiofs_ask){.op = AIOFS_READ});
    pthread_t sleeper;
    pthread_create(&sleeper, NULL, sleep_on, block);
    CHECK(EVENTUALLY(PATIENCE, block->word & AIOFS_WAITED), "a thread sleeps on a request");
    aiofs_list_put(&call, &block->aio, NULL);
    call.count = 0; /* the request is not submitted to the engine */
    aiofs_list_finish(&call);
    CHECK(noted == 0, "a list is not complete while an entry is in flight");
    aiofs_aio_end(&block->aio, 5);
    pthread_join(sleeper, NULL);
    CHECK(was("snlw") && block->result == 5,
          "a completion sets the state, gives the notice and the list's notice, and wakes the sleeping threads");
    release(block);
}

static void refused_call(void)
{
    struct block *block = block_of(&(struct aiofs_ask){.op = AIOFS_READ});
    aiofs_refuse(&block->aio.ending, -EAGAIN);
    CHECK(was("sd") && block->result == -EAGAIN, "a call that fails sets the state and drops the notice");
    release(block);
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static int pipes[2];

static struct block *reader(char *byte)
{
    return block_of(&(struct aiofs_ask){.op = AIOFS_READ, .fd = pipes[0], .bytes = {byte, 1}});
}

static void put(struct aiofs_list_call *call, struct block *block)
{
    if (aiofs_list_put(call, &block->aio, NULL))
        aiofs_list_submit(call);
}

static void many(void)
{
    enum { MANY = 3 * AIOFS_LIST_BATCH + 5 };
    static char bytes[MANY];
    struct block *blocks[MANY];
    struct aiofs_list_call call = begun(LIO_WAIT, NULL);
    int done = 0;
    for (int i = 0; i < MANY; i++)
        put(&call, blocks[i] = reader(&bytes[i]));
    for (int i = 0; i < MANY; i++)
        MUST(write(pipes[1], "x", 1));
    CHECK(aiofs_list_finish(&call) == 0, "LIO_WAIT: a list of several batches");
    for (int i = 0; i < MANY; i++) {
        done += blocks[i]->result == 1 && bytes[i] == 'x';
        release(blocks[i]);
    }
    CHECK(done == MANY, "every entry is terminal when LIO_WAIT returns");
    noted = 0;
}

/* The engine does not accept the reqprio of this entry, which no check has refused. */
static void refused_entry(void)
{
    struct aiofs_list_call call = begun(LIO_NOWAIT, "l");
    struct block *block = block_of(&(struct aiofs_ask){.op = AIOFS_READ, .fd = pipes[0], .reqprio = 4711});
    put(&call, block);
    CHECK(aiofs_list_finish(&call) == 0 && was("snl") && block->result == -EINVAL,
          "an entry that the engine refuses ends with its error, and is notified");
    CHECK(block->aio.request.notified && aiofs_cancel(&block->aio.request) == AIOFS_CANCEL_ALLDONE,
          "cancelling the refused request does not wait");
    release(block);
}

static void failures(void)
{
    char byte;
    struct aiofs_list_call call = begun(LIO_WAIT, NULL);
    aiofs_list_note(&call, 7);
    CHECK(aiofs_list_finish(&call) == 0, "LIO_WAIT returns 0 for an entry that completed inside the call");
    call = begun(LIO_WAIT, NULL);
    aiofs_list_note(&call, -EBADF);
    CHECK(aiofs_list_finish(&call) == -EIO, "LIO_WAIT is EIO if an entry failed inside the call");
    call = begun(LIO_WAIT, NULL);
    struct block *block = block_of(&(struct aiofs_ask){.op = AIOFS_READ, .fd = -1, .bytes = {&byte, 1}});
    put(&call, block);
    CHECK(aiofs_list_finish(&call) == -EIO && block->result == -EBADF && was("sn"),
          "LIO_WAIT is EIO if an entry failed in the engine");
    release(block);
    call = begun(LIO_WAIT, NULL);
    call.waits = false;
    aiofs_list_note(&call, -EBADF);
    CHECK(aiofs_list_finish(&call) == 0, "a face can clear `waits`: the call then does not wait");
}

static void empty_list(void)
{
    struct aiofs_list_call call = begun(LIO_NOWAIT, "l");
    CHECK(aiofs_list_finish(&call) == 0 && was("l"), "a list without entries is notified at once");
}

int main(void)
{
    check_begin(60);
    MUST(pipe(pipes));
    valid_arguments();
    results();
    quick_ones();
    allowance();
    order_of_an_end();
    refused_call();
    empty_list();
    check_engine();
    many();
    refused_entry();
    failures();
    return check_end();
}
