/*
 * free.c
 *		Pages that nothing refers to: found, freed, and given out again.
 *
 * DESIGN.md, section 7.  A page is free if neither the tree nor a retired node
 * that a scan may still be reading has it.  VACUUM looks for such pages and
 * writes them down in the free space map.
 */
#include "postgres.h"

#include "winnow.h"

#include "access/transam.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "storage/freespace.h"
#include "storage/indexfsm.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

/* Retired pages are looked for when they are one in so many */
#define RETIRED_SHARE 16

/*
 * A page for something new, exclusively locked: a free one, else one at the end
 * of the relation.
 *
 * Free pages are given out under the structure lock.  So no two backends get
 * the same one, and while VACUUM, which holds it, looks for pages that nothing
 * refers to, none before the end that it has noted is taken into use.
 */
Buffer
winnow_allocate(Relation rel)
{
	if (winnow_structure_try_lock(rel))
	{
		BlockNumber block;

		while (BlockNumberIsValid(block = GetFreeIndexPage(rel)))
		{
			Buffer		buffer;
			Page		page;

			/* the map survives no crash for certain */
			if (block >= RelationGetNumberOfBlocks(rel))
				continue;
			buffer = ReadBuffer(rel, block);
			page = BufferGetPage(buffer);
			if (!winnow_buffer_locked(buffer) && ConditionalLockBuffer(buffer))
			{
				if (PageIsNew(page) || winnow_page_kind(page) == WINNOW_PAGE_FREE)
				{
					winnow_structure_unlock(rel);
					WINNOW_WAIT_POINT("allocate");
					return buffer;
				}
				LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
			}
			ReleaseBuffer(buffer);
		}
		winnow_structure_unlock(rel);
	}
	return winnow_extend_relation(rel, MAIN_FORKNUM);
}

/* Set the meta page's number of retired pages, or add to it */
static void
set_retired(Relation rel, bool add, uint32 npages)
{
	Buffer		buffer = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
										  BUFFER_LOCK_EXCLUSIVE);
	uint32		before = WinnowPageGetMeta(BufferGetPage(buffer))->retired_pages;
	uint32		after = npages + (add ? Min(before, PG_UINT32_MAX - npages) : 0);

	if (after != before)
	{
		GenericXLogState *xlog = GenericXLogStart(rel);

		WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, buffer, 0))->retired_pages = after;
		GenericXLogFinish(xlog);
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * So many pages belong to nodes that have just been retired.  The number only
 * tells VACUUM whether a look for free pages is worth while: it may be wrong.
 */
void
winnow_count_retired(Relation rel, uint32 npages)
{
	set_retired(rel, true, npages);
}

/* Such a look begins */
void
winnow_forget_retired(Relation rel)
{
	set_retired(rel, false, 0);
}

/* The pages of a retired node stay */
static uint32
keep_node(Relation rel, const WinnowIndex *index, BlockNumber node, uint64 *seen,
		  BlockNumber nblocks)
{
	WinnowView *view = winnow_view_alloc(index);
	uint32		npages = 0;

	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(rel, index, block, -1, InvalidXLogRecPtr, NULL, view);
		winnow_view_note(view, seen, nblocks);
		npages += 1 + view->ndata;
	}
	winnow_view_free(view);
	return npages;
}

/* Make a page a free one.  Returns false if it was one already. */
static bool
free_page(Relation rel, BlockNumber block)
{
	Buffer		buffer = ReadBuffer(rel, block);
	Page		page = BufferGetPage(buffer);
	bool		used;

	WINNOW_WAIT_POINT("sweep-free");
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	used = !PageIsNew(page) && winnow_page_kind(page) != WINNOW_PAGE_FREE;
	if (used)
	{
		GenericXLogState *xlog = GenericXLogStart(rel);

		winnow_page_init(GenericXLogRegisterBuffer(xlog, buffer, GENERIC_XLOG_FULL_IMAGE),
						 WINNOW_PAGE_FREE, winnow_birth(rel));
		GenericXLogFinish(xlog);
	}
	UnlockReleaseBuffer(buffer);
	return used;
}

/*
 * Keep the retired nodes that a scan may still read: there is a snapshot as old
 * as their retirement.  Returns the number of their pages, and adds them to seen.
 *
 * Of the others the first head page, the one that says so, is freed at once.
 * Were it freed after another page of the node and VACUUM cancelled in between,
 * the next might have to keep a node that is not whole: horizons can go back.
 */
static uint32
settle_retired(Relation rel, Relation heap, const WinnowIndex *index, uint64 *seen,
			   BlockNumber nblocks, IndexBulkDeleteResult *stats)
{
	uint32		npages = 0;

	for (BlockNumber block = WINNOW_META_BLOCK + 1; block < nblocks; block++)
	{
		Buffer		buffer;
		Page		page;
		bool		retired;
		uint64		retired_at = 0;

		if (winnow_bit_get(seen, block))
			continue;
		winnow_vacuum_delay();
		buffer = ReadBuffer(rel, block);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		retired = !PageIsNew(page) && winnow_page_kind(page) == WINNOW_PAGE_HEAD &&
			(WinnowPageGetGroup(page)->flags & WINNOW_RETIRED);
		if (retired)
			retired_at = WinnowPageGetGroup(page)->retired_at;
		UnlockReleaseBuffer(buffer);
		if (!retired)
			continue;
		if (!GlobalVisCheckRemovableFullXid(heap, FullTransactionIdFromU64(retired_at)))
			npages += keep_node(rel, index, block, seen, nblocks);
		else if (free_page(rel, block))
			stats->pages_newly_deleted++;
	}
	return npages;
}

/*
 * Free what is not in use.  seen has a bit set for each of the first nblocks
 * blocks that the tree has; the structure lock has been held since before the
 * walk that found them.  Among the others are pages of nodes that were replaced,
 * and such as a crash or an error has left behind.
 */
void
winnow_sweep(Relation rel, Relation heap, const WinnowIndex *index, uint64 *seen,
			 BlockNumber nblocks, IndexBulkDeleteResult *stats)
{
	uint32		kept = settle_retired(rel, heap, index, seen, nblocks, stats);

	stats->pages_free = 0;
	for (BlockNumber block = WINNOW_META_BLOCK + 1; block < nblocks; block++)
	{
		if (winnow_bit_get(seen, block))
			continue;
		winnow_vacuum_delay();
		if (free_page(rel, block))
			stats->pages_newly_deleted++;
		RecordFreeIndexPage(rel, block);
		stats->pages_free++;
	}
	stats->pages_deleted = stats->pages_free + kept;
	if (stats->pages_free > 0)
		IndexFreeSpaceMapVacuum(rel);
	if (kept > 0)
		winnow_count_retired(rel, kept);
}

/* Have so many pages been retired since the last sweep that one is due? */
bool
winnow_sweep_pays(Relation rel)
{
	Buffer		buffer = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
										  BUFFER_LOCK_SHARE);
	uint32		retired = WinnowPageGetMeta(BufferGetPage(buffer))->retired_pages;

	UnlockReleaseBuffer(buffer);
	return retired > 0 && retired >= RelationGetNumberOfBlocks(rel) / RETIRED_SHARE;
}
