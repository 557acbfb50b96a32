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

/* Pages of replaced nodes that a sweep has to keep */
typedef struct Kept
{
	uint32		npages;
	uint64		until;			/* when the newest of the nodes was retired, an xid */
} Kept;

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

/* Pages that the free space map has */
BlockNumber
winnow_free_pages(Relation rel)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber npages = 0;

	for (BlockNumber block = 0; block < nblocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		npages += GetRecordedFreeSpace(rel, block) > 0;
	}
	return npages;
}

/*
 * Pages have been retired.  Their number, on the meta page, tells VACUUM whether a
 * look for free pages is worth while, and what to report; it may be wrong.
 */
void
winnow_count_retired(Relation rel, uint32 npages)
{
	Buffer		buffer = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
										  BUFFER_LOCK_EXCLUSIVE);
	GenericXLogState *xlog = GenericXLogStart(rel);

	WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, buffer, 0))->retired_pages += npages;
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(buffer);
}

/*
 * Note that a sweep, of the so many pages that had been retired before it, had to
 * keep some, the newest retired as long ago as that.
 */
static void
note_kept(Relation rel, uint32 retired_before, const Kept *kept)
{
	Buffer		buffer = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
										  BUFFER_LOCK_EXCLUSIVE);
	const WinnowMeta *before = WinnowPageGetMeta(BufferGetPage(buffer));
	uint32		during = before->retired_pages - Min(retired_before, before->retired_pages);

	if (before->retired_pages != during + kept->npages || before->kept_pages != kept->npages ||
		before->kept_until != kept->until)
	{
		GenericXLogState *xlog = GenericXLogStart(rel);
		WinnowMeta *meta = WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, buffer, 0));

		meta->retired_pages = during + kept->npages;
		meta->kept_pages = kept->npages;
		meta->kept_until = kept->until;
		GenericXLogFinish(xlog);
	}
	UnlockReleaseBuffer(buffer);
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
 * The pages of a node stay.  It may be one that a crash has left unfinished, so
 * the chain ends where a page is not the node's.
 */
static uint32
keep_node(Relation rel, const WinnowIndex *index, BlockNumber node, uint64 *seen,
		  BlockNumber nblocks)
{
	uint32		npages = 0;
	BlockNumber block = node;

	while (block < nblocks && !winnow_bit_get(seen, block))
	{
		Buffer		buffer = ReadBuffer(rel, block);
		Page		page = BufferGetPage(buffer);
		WinnowGroup *group;

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		group = WinnowPageGetGroup(page);
		if (PageIsNew(page) || winnow_page_kind(page) != WINNOW_PAGE_HEAD ||
			group->first != node || group->level >= WINNOW_MAX_LEVELS ||
			group->ndata > winnow_layout(index, group->level)->max_data ||
			group->nrecord_pages > winnow_layout(index, group->level)->max_record_pages)
		{
			UnlockReleaseBuffer(buffer);
			break;
		}
		winnow_group_note(winnow_layout(index, group->level), block, group, seen, nblocks);
		npages += winnow_group_pages(winnow_layout(index, group->level), group);
		block = group->next;
		UnlockReleaseBuffer(buffer);
	}
	return npages;
}

/* Mark a node as retired on its first head page: whoever has a newer snapshot has not seen a pointer to it */
void
winnow_group_retire(WinnowGroup *group)
{
	group->flags |= WINNOW_RETIRED;
	group->retired_at = U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* Mark a node that the tree does not have as retired; its first head page is locked */
void
winnow_retire(Relation rel, Buffer buffer)
{
	GenericXLogState *xlog = GenericXLogStart(rel);
	WinnowGroup *group = WinnowPageGetGroup(GenericXLogRegisterBuffer(xlog, buffer, 0));

	winnow_group_retire(group);
	GenericXLogFinish(xlog);
}

/*
 * May a scan still read the node, which the tree does not have, and whose first
 * head page is locked?  So it is as long as there is a snapshot as old as the node's
 * retirement.  One that has no mark of that lost its place in the tree in a
 * crash, or to an error: it is marked now.
 */
static bool
may_be_read(Relation rel, Relation heap, Buffer buffer)
{
	WinnowGroup *group = WinnowPageGetGroup(BufferGetPage(buffer));

	if ((group->flags & WINNOW_RETIRED) == 0)
	{
		winnow_retire(rel, buffer);
		return true;
	}
	return !GlobalVisCheckRemovableFullXid(heap, FullTransactionIdFromU64(group->retired_at));
}

/*
 * Keep the nodes that may still be read: their pages are added to seen.
 *
 * The first head page of the others is freed, before their other pages are.  So
 * what a sweep that is not finished leaves of a node is not taken for a node by
 * the next one, which may find an older snapshot: a standby's, for example.
 */
static Kept
keep_retired(Relation rel, Relation heap, const WinnowIndex *index, uint64 *seen,
			 BlockNumber nblocks, IndexBulkDeleteResult *stats)
{
	Kept		kept = {0, 0};

	for (BlockNumber block = WINNOW_META_BLOCK + 1; block < nblocks; block++)
	{
		Buffer		buffer;
		Page		page;
		bool		first;
		bool		needed;

		if (winnow_bit_get(seen, block))
			continue;
		winnow_vacuum_delay();
		buffer = ReadBuffer(rel, block);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		page = BufferGetPage(buffer);
		first = !PageIsNew(page) && winnow_page_kind(page) == WINNOW_PAGE_HEAD &&
			WinnowPageGetGroup(page)->first == block;
		needed = first && may_be_read(rel, heap, buffer);
		if (needed)
			kept.until = Max(kept.until, WinnowPageGetGroup(page)->retired_at);
		UnlockReleaseBuffer(buffer);
		if (needed)
			kept.npages += keep_node(rel, index, block, seen, nblocks);
		else if (first && free_page(rel, block))
			stats->pages_newly_deleted++;
	}
	return kept;
}

/*
 * Free what is not in use.  seen has a bit set for each of the first nblocks
 * blocks that the tree has; the structure lock has been held since before the
 * walk that found them, when so many pages had been retired.  Among the others are
 * pages of nodes that were replaced, and such as a crash or an error has left
 * behind.
 */
void
winnow_sweep(Relation rel, Relation heap, const WinnowIndex *index, uint64 *seen,
			 BlockNumber nblocks, uint32 retired_before, IndexBulkDeleteResult *stats)
{
	Kept		kept = keep_retired(rel, heap, index, seen, nblocks, stats);

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
	stats->pages_deleted = stats->pages_free + kept.npages;
	if (stats->pages_free > 0)
		IndexFreeSpaceMapVacuum(rel);
	note_kept(rel, retired_before, &kept);
}

/*
 * Are there so many pages to be freed that a sweep is due?  Those that the last one
 * kept count if nobody can read them any more.
 */
bool
winnow_sweep_pays(Relation rel, Relation heap)
{
	WinnowMeta	meta = winnow_read_meta(rel, NULL);
	uint32		npages = meta.retired_pages;

	if (meta.kept_pages > 0 &&
		!GlobalVisCheckRemovableFullXid(heap, FullTransactionIdFromU64(meta.kept_until)))
		npages -= Min(meta.kept_pages, npages);
	return npages > 0 && npages >= RelationGetNumberOfBlocks(rel) / RETIRED_SHARE;
}
