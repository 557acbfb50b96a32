/*
 * vacuum.c
 *		Dead rows out of the index, and what follows from their absence.
 *
 * One walk over the tree, with the structure lock held: removed bits are set on
 * first head pages, what has become small is merged, summaries are made narrower
 * (merge.c), and pages that nothing refers to any more are freed (free.c).
 */
#include "postgres.h"

#include "winnow.h"

#include "access/table.h"
#include "commands/vacuum.h"
#include "storage/lmgr.h"

typedef struct VacuumState
{
	Relation	rel;
	Relation	heap;
	const WinnowIndex *index;
	IndexBulkDeleteResult *stats;
	IndexBulkDeleteCallback callback;	/* NULL: nothing is dead */
	void	   *callback_state;
	uint64	   *removed;		/* removed bits of a node's first head page ... */
	uint64	   *dead;			/* ... and those that are to be set */
	uint64	   *seen;			/* blocks that the tree has */
	BlockNumber nblocks;		/* of so many */
} VacuumState;

/*
 * Which rows of a head page, of those that are live, are dead?  They get bits in
 * "dead".  Returns their number.
 */
static int
find_dead(VacuumState *state, Page page, const uint64 *removed, uint64 *dead)
{
	const WinnowLayout *layout = &state->index->leaf;
	int			ndead = 0;

	for (int slot = 0; slot < WinnowPageGetGroup(page)->nrows; slot++)
	{
		ItemPointerData tid;

		if (winnow_bit_get(removed, slot))
			continue;
		winnow_tid_unpack(winnow_row_id(layout, page, slot), &tid);
		if (state->callback(&tid, state->callback_state))
		{
			winnow_bit_set(dead, slot);
			ndead++;
		}
	}
	return ndead;
}

/* Set removed bits of a locked head page */
static void
remove_rows(VacuumState *state, Buffer buffer, const uint64 *dead, int nwords)
{
	GenericXLogState *xlog = GenericXLogStart(state->rel);
	uint64	   *removed = winnow_removed_map(&state->index->leaf,
											 GenericXLogRegisterBuffer(xlog, buffer, 0));

	for (int w = 0; w < nwords; w++)
		removed[w] |= dead[w];
	GenericXLogFinish(xlog);
}

/*
 * Remove the dead rows of a leaf.  Its first head page, which has the removed
 * bits of most groups, or all, is locked twice: to copy them, and to set
 * those of rows that have been found dead.  Meanwhile an insertion may take a
 * slot that had been removed before, but nobody else removes rows, and what copies
 * them is kept out.
 */
static void
vacuum_leaf(VacuumState *state, BlockNumber node, WinnowChild *self)
{
	const WinnowLayout *layout = &state->index->leaf;
	int			nwords = winnow_map_words(layout);
	BlockNumber block = node;
	WinnowChain chain;
	int			ndead = 0;

	winnow_chain_start(&chain, node);
	memset(state->dead, 0, sizeof(uint64) * nwords);
	while (BlockNumberIsValid(block))
	{
		Buffer		buffer;
		Page		page;
		WinnowGroup *group;
		bool		mapped;
		const uint64 *removed;
		int			found = 0;
		int			nlive;

		winnow_vacuum_delay();
		buffer = winnow_read_head(state->index, state->rel, block, 0, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		group = WinnowPageGetGroup(page);
		winnow_chain_follow(state->rel, &chain, block, page);
		if (block == node)
			memcpy(state->removed, winnow_removed_map(layout, page), sizeof(uint64) * nwords);
		mapped = winnow_is_mapped(layout, group);
		removed = mapped ? state->removed + group->number * layout->group_words :
			winnow_removed_map(layout, page);
		winnow_group_note(layout, block, group, state->seen, state->nblocks);
		nlive = group->nrows - winnow_count_removed(removed, group->nrows);
		if (state->callback && mapped)
			ndead += found = find_dead(state, page, removed,
									   state->dead + group->number * layout->group_words);
		else if (state->callback)
		{
			/* its bits are its own */
			uint64		dead[WINNOW_MASK_MAX] = {0};

			found = find_dead(state, page, removed, dead);
			if (found > 0)
			{
				/* others may take slots meanwhile that were free before */
				LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
				LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
				remove_rows(state, buffer, dead, layout->group_words);
			}
		}
		state->stats->tuples_removed += found;
		self->size += nlive - found;
		self->changed |= found > 0;
		self->holes |= nlive - found < group->nrows;
		block = group->next;
		UnlockReleaseBuffer(buffer);
	}
	if (ndead > 0)
	{
		Buffer		first = winnow_read_head(state->index, state->rel, node, 0,
											 BUFFER_LOCK_EXCLUSIVE);

		remove_rows(state, first, state->dead, nwords);
		UnlockReleaseBuffer(first);
	}
	state->stats->num_index_tuples += self->size;
}

/*
 * The children of an inner node, which is self; its pages are noted as the
 * tree's.
 */
static WinnowChild *
list_children(VacuumState *state, BlockNumber node, int level, WinnowChild *self,
			  int *nchildren)
{
	WinnowView *view = winnow_view_alloc(state->index);
	WinnowChild *children = NULL;
	int			allocated = 0;

	*nchildren = 0;
	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(state->rel, state->index, block, level, InvalidXLogRecPtr, NULL, view);
		winnow_view_note(view, state->seen, state->nblocks);
		self->holes |= view->nlive < view->nrows;
		if (*nchildren + view->nselected > allocated)
		{
			allocated = *nchildren + view->nselected;
			children = children ? repalloc(children, sizeof(WinnowChild) * allocated) :
				palloc(sizeof(WinnowChild) * allocated);
		}
		for (int i = 0; i < view->nselected; i++)
		{
			WinnowChild *child = &children[(*nchildren)++];

			memset(child, 0, sizeof(*child));
			child->step.node = node;
			child->step.group = block;
			child->step.slot = view->selected[i];
			child->step.child = (BlockNumber) view->ids[i];
			child->told = view->stats[i].rows;
		}
	}
	winnow_view_free(view);
	return children;
}

/* A node that was made during the walk has pages that the walk has not noted */
static void
note_node(VacuumState *state, BlockNumber node)
{
	WinnowView *view = winnow_view_alloc(state->index);

	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(state->rel, state->index, block, -1, InvalidXLogRecPtr, NULL, view);
		winnow_view_note(view, state->seen, state->nblocks);
	}
	winnow_view_free(view);
}

/*
 * Vacuum what is below a node.  self is what its parent is to know of it: the
 * number of its rows, and whether something has become less.
 */
static void
vacuum_node(VacuumState *state, BlockNumber node, int level, WinnowChild *self)
{
	WinnowChild *children;
	int			nchildren;
	double		before = state->stats->num_index_tuples;

	if (level == 0)
	{
		vacuum_leaf(state, node, self);
		self->changed |= self->size != self->told;
		WINNOW_WAIT_POINT("vacuum-leaf");
		return;
	}
	children = list_children(state, node, level, self, &nchildren);
	for (int i = 0; i < nchildren; i++)
		vacuum_node(state, children[i].step.child, level - 1, &children[i]);
	/* what inserts have counted is right on average only */
	self->changed |= state->stats->num_index_tuples - before != self->told;
	WINNOW_WAIT_POINT("vacuum-merge");
	if (winnow_merge_children(state->rel, state->heap, state->index, level - 1, children,
							  nchildren))
		self->changed = self->holes = true;
	WINNOW_WAIT_POINT("vacuum-tighten");
	for (int i = 0; i < nchildren; i++)
	{
		if (children[i].size < 0)
			continue;
		self->size++;
		if (children[i].fresh)
			note_node(state, children[i].step.child);
		else if (children[i].changed && children[i].size > 0 &&
				 winnow_tighten(state->rel, state->index, &children[i].step))
			self->changed = true;
	}
	if (children)
		pfree(children);
}

/* The walk */
static IndexBulkDeleteResult *
vacuum_index(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
			 IndexBulkDeleteCallback callback, void *callback_state)
{
	VacuumState state = {0};
	WinnowChild top = {0};
	WinnowView *view;
	BlockNumber root;
	double		removed_before;
	uint32		retired_before;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	stats->num_index_tuples = 0;
	removed_before = stats->tuples_removed;
	state.rel = info->index;
	state.heap = table_open(info->index->rd_index->indrelid, AccessShareLock);
	state.index = winnow_index_open(info->index, CurrentMemoryContext);
	state.stats = stats;
	state.callback = callback;
	state.callback_state = callback_state;
	state.removed = palloc(sizeof(uint64) * winnow_map_words(&state.index->leaf));
	state.dead = palloc(sizeof(uint64) * winnow_map_words(&state.index->leaf));

	/* from here on rows do not move, and free pages are not given out */
	winnow_structure_lock(state.rel);
	state.nblocks = RelationGetNumberOfBlocks(state.rel);
	state.seen = palloc_extended(sizeof(uint64) * (state.nblocks / 64 + 1),
								 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	retired_before = winnow_read_meta(state.rel, NULL).retired_pages;
	WINNOW_WAIT_POINT("vacuum-walk");
	root = winnow_read_root(state.rel, NULL);
	view = winnow_view_alloc(state.index);
	winnow_view_read(state.rel, state.index, root, -1, InvalidXLogRecPtr, NULL, view);
	vacuum_node(&state, root, view->level, &top);
	WINNOW_WAIT_POINT("vacuum-root");
	winnow_lower_root(state.rel, state.index);
	WINNOW_WAIT_POINT("vacuum-sweep");
	winnow_sweep(state.rel, state.heap, state.index, state.seen, state.nblocks,
				 retired_before, stats);
	winnow_structure_unlock(state.rel);

	stats->estimated_count = false;
	winnow_note_rows(state.rel, stats->num_index_tuples, stats->tuples_removed - removed_before);
	table_close(state.heap, AccessShareLock);
	return stats;
}

/* ambulkdelete */
IndexBulkDeleteResult *
winnow_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				  IndexBulkDeleteCallback callback, void *callback_state)
{
	return vacuum_index(info, stats, callback, callback_state);
}

/*
 * amvacuumcleanup.  If no row was dead there may still be free pages, left by
 * the splits that insertions have led to, or rows that have come.  Where rows have been counted lists
 * and stopping rule may need to be brought up to date.  Without a walk nothing
 * is known that VACUUM could report.
 */
IndexBulkDeleteResult *
winnow_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	if (info->analyze_only)
		return stats;
	if (stats == NULL)
	{
		Relation	heap = table_open(info->index->rd_index->indrelid, AccessShareLock);

		if (winnow_sweep_pays(info->index, heap) || winnow_count_pays(info->index))
			stats = vacuum_index(info, NULL, NULL, NULL);
		table_close(heap, AccessShareLock);
	}
	if (stats == NULL)
		return NULL;
	winnow_follow(info->index, stats->num_index_tuples, stats->pages_free);
	stats->num_pages = RelationGetNumberOfBlocks(info->index);
	stats->pages_free = winnow_free_pages(info->index);
	stats->pages_deleted = stats->pages_free + winnow_read_meta(info->index, NULL).retired_pages;
	return stats;
}
