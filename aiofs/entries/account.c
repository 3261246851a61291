/*
 * account.c - what each process has in the shared page of a volume, and giving it back when the process is dead.
 *
 * The usage count of a volume contains, beside the sizes of the files, what only a living process can explain: capacity
 * that it reserved and has not used, and the bytes of files that were unlinked while it has them open. Each process
 * keeps these two numbers in an account, one of a fixed array. It owns the account by a write lock on a byte of
 * `.aiofs/volume`, on the same open file description as the presence lock; the kernel unlocks it when the process dies.
 * So a process that can lock the byte of an account with numbers in it knows that their owner is dead, and subtracts
 * them from the usage count.
 *
 * A walk that counts the files gives an exact count only if no size changed meanwhile. So each change of a size through
 * aiofs is announced: `changing` of the account counts the changes under way, `changes` of the page those that began. A
 * process that dies during a change leaves the count inexact, until the next walk.
 *
 * If all accounts are taken, the page is crowded: a process without an account changes sizes, but no walk is exact any
 * more, until the volume is opened afresh.
 *
 * Ownership and locking. The namespace lock guards the index of this process's account, and is held while accounts of
 * the dead are settled, because all threads of a process share the locks on the bytes. The numbers are atomic.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>

#include "sys.h"
#include "volume_internal.h"

#define ACCOUNT_BYTE ((int64_t)1 << 40) /* of .aiofs/volume; sessions of `aiofs run` have bytes below 1 << 20 */
#define CROWDED (-2)

static int set_lock(const struct aiofs_tree *tree, int number, short type)
{
    return aiofs_bytes_set(atomic_load(&tree->presence), type, ACCOUNT_BYTE + number, 1);
}

/* Subtracts from the usage count, which does not fall below zero, as it could where a program truncated files without
 * aiofs. */
void aiofs_usage_subtract(struct aiofs_tally *tally, int64_t bytes)
{
    int64_t usage = atomic_load(&tally->usage), less;
    do {
        if (usage < 0)
            return;
        less = usage > bytes ? usage - bytes : 0;
    } while (!atomic_compare_exchange_weak(&tally->usage, &usage, less));
}

static bool is_empty(const struct aiofs_account *account)
{
    return atomic_load(&account->reserved) == 0 && atomic_load(&account->unnamed) == 0 &&
           atomic_load(&account->changing) == 0;
}

/* Empties an account whose byte this process has locked: its owner is dead. */
static void settle_locked(struct aiofs_tally *tally, struct aiofs_account *account)
{
    if (atomic_load(&account->changing) != 0)
        atomic_store(&tally->inexact, 1);
    int64_t left = atomic_exchange(&account->reserved, 0) + atomic_exchange(&account->unnamed, 0);
    aiofs_usage_subtract(tally, left);
    atomic_store(&account->changing, 0);
}

/* Takes an account for this process. */
static void claim_locked(struct aiofs_tree *tree)
{
    if (tree->account != -1 || atomic_load(&tree->presence) < 0)
        return;
    for (int i = 0; i < AIOFS_ACCOUNTS; i++) {
        if (set_lock(tree, i, F_WRLCK) < 0)
            continue;
        settle_locked(tree->tally, &tree->tally->accounts[i]);
        tree->account = i;
        return;
    }
    tree->account = CROWDED;
}

struct aiofs_account *aiofs_account_locked(struct aiofs_tree *tree)
{
    claim_locked(tree);
    return tree->account >= 0 ? &tree->tally->accounts[tree->account] : NULL;
}

int aiofs_account_number(struct aiofs_tree *tree)
{
    aiofs_namespace_lock();
    const struct aiofs_account *account = aiofs_quota_counted(tree) ? aiofs_account_locked(tree) : NULL;
    int number = account ? tree->account : -1;
    aiofs_namespace_unlock();
    return number;
}

bool aiofs_account_is_owned(const struct aiofs_tree *tree, int number)
{
    aiofs_namespace_lock();
    bool owned = number == tree->account || set_lock(tree, number, F_WRLCK) < 0;
    if (!owned)
        set_lock(tree, number, F_UNLCK);
    aiofs_namespace_unlock();
    return owned;
}

bool aiofs_accounts_settle_locked(struct aiofs_tree *tree)
{
    bool found = false;
    for (int i = 0; i < AIOFS_ACCOUNTS && atomic_load(&tree->presence) >= 0; i++) {
        struct aiofs_account *account = &tree->tally->accounts[i];
        if (i == tree->account || is_empty(account) || set_lock(tree, i, F_WRLCK) < 0)
            continue;
        settle_locked(tree->tally, account);
        set_lock(tree, i, F_UNLCK);
        found = true;
    }
    return found;
}

/* ---- changes of sizes ----------------------------------------------------------------------------------- */

void aiofs_change_begin_locked(struct aiofs_tree *tree)
{
    struct aiofs_account *account = aiofs_account_locked(tree);
    if (account)
        atomic_fetch_add(&account->changing, 1);
    else
        atomic_store(&tree->tally->crowded, 1);
    atomic_fetch_add(&tree->tally->changes, 1);
}

void aiofs_change_end_locked(struct aiofs_tree *tree)
{
    if (tree->account >= 0)
        atomic_fetch_sub(&tree->tally->accounts[tree->account].changing, 1);
}

bool aiofs_change_begin(struct aiofs_tree *tree)
{
    if (!aiofs_quota_counted(tree))
        return false;
    aiofs_namespace_lock();
    aiofs_change_begin_locked(tree);
    aiofs_namespace_unlock();
    return true;
}

void aiofs_change_end(struct aiofs_tree *tree, bool begun)
{
    if (!begun)
        return;
    aiofs_namespace_lock();
    aiofs_change_end_locked(tree);
    aiofs_namespace_unlock();
}

bool aiofs_sizes_settled(const struct aiofs_tree *tree)
{
    if (atomic_load(&tree->tally->crowded))
        return false;
    for (int i = 0; i < AIOFS_ACCOUNTS; i++)
        if (atomic_load(&tree->tally->accounts[i].changing) > 0)
            return false;
    return true;
}

int64_t aiofs_accounts_sum(const struct aiofs_tree *tree)
{
    int64_t sum = 0;
    for (int i = 0; i < AIOFS_ACCOUNTS; i++) {
        const struct aiofs_account *account = &tree->tally->accounts[i];
        sum += atomic_load(&account->reserved) + atomic_load(&account->unnamed);
    }
    return sum;
}
