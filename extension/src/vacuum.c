/*
 * vacuum.c
 *		Dead rows out of the index: head pages only.
 */
#include "postgres.h"

#include "winnow.h"

#include "commands/vacuum.h"
#include "storage/lmgr.h"

typedef struct VacuumState
{
	IndexVacuumInfo *info;
	Relation	rel;
	const WinnowIndex *index;
	IndexBulkDeleteResult *stats;
	IndexBulkDeleteCallback callback;
	void	   *callback_state;
	uint64	   *dead;			/* bits of one head page */
} VacuumState;

/*
 * Clear the live bits of the dead rows of one head page; returns the next.
 * The first head page of the node is not locked: only live bits change, under
 * this page's own lock, and splits, which copy them, are kept out.
 */
static BlockNumber
vacuum_group(VacuumState *state, WinnowChain *chain, BlockNumber block)
{
	const WinnowLayout *layout = &state->index->leaf;
	Buffer		buffer = winnow_read_head(state->index, state->rel, block, 0,
										  BUFFER_LOCK_EXCLUSIVE);
	Page		page = BufferGetPage(buffer);
	BlockNumber next = WinnowPageGetGroup(page)->next;
	int			nrows = WinnowPageGetGroup(page)->nrows;
	int			nwords = WINNOW_MASK_WORDS(nrows);
	const uint64 *live = winnow_live_bits(layout, page);
	int			ndead = 0;

	winnow_chain_follow(state->rel, chain, block, page);
	memset(state->dead, 0, sizeof(uint64) * nwords);
	for (int slot = 0; slot < nrows; slot++)
	{
		ItemPointerData tid;

		if (!winnow_bit_get(live, slot))
			continue;
		winnow_tid_unpack(winnow_row_id(layout, page, slot), &tid);
		if (state->callback(&tid, state->callback_state))
		{
			winnow_bit_set(state->dead, slot);
			ndead++;
		}
		else
			state->stats->num_index_tuples++;
	}
	if (ndead > 0)
	{
		GenericXLogState *xlog = GenericXLogStart(state->rel);
		uint64	   *bits = winnow_live_bits(layout, GenericXLogRegisterBuffer(xlog, buffer, 0));

		for (int w = 0; w < nwords; w++)
			bits[w] &= ~state->dead[w];
		GenericXLogFinish(xlog);
		state->stats->tuples_removed += ndead;
	}
	UnlockReleaseBuffer(buffer);
	return next;
}

/* Vacuum the leaves below a node */
static void
vacuum_node(VacuumState *state, BlockNumber node, int level)
{
	WinnowView *view = winnow_view_alloc(state->index);
	BlockNumber block = node;
	WinnowChain chain;

	winnow_chain_start(&chain, node);
	while (BlockNumberIsValid(block))
	{
		winnow_vacuum_delay();
		if (level == 0)
		{
			block = vacuum_group(state, &chain, block);
			continue;
		}
		winnow_view_read(state->rel, state->index, block, level, NULL, view);
		for (int i = 0; i < view->nselected; i++)
			vacuum_node(state, (BlockNumber) view->ids[i], level - 1);
		block = view->next;
	}
	winnow_view_free(view);
}

/* ambulkdelete */
IndexBulkDeleteResult *
winnow_bulkdelete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				  IndexBulkDeleteCallback callback, void *callback_state)
{
	VacuumState state = {0};
	WinnowView *view;
	BlockNumber root;

	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	stats->num_index_tuples = 0;
	state.info = info;
	state.rel = info->index;
	state.index = winnow_index_open(info->index, CurrentMemoryContext);
	state.stats = stats;
	state.callback = callback;
	state.callback_state = callback_state;
	state.dead = palloc(sizeof(uint64) * WINNOW_MASK_MAX);

	/* from here on rows do not move */
	winnow_structure_lock(info->index);
	root = winnow_read_root(info->index);
	view = winnow_view_alloc(state.index);
	winnow_view_read(info->index, state.index, root, -1, NULL, view);
	vacuum_node(&state, root, view->level);
	winnow_structure_unlock(info->index);
	stats->estimated_count = false;
	stats->num_pages = RelationGetNumberOfBlocks(info->index);
	return stats;
}

/* amvacuumcleanup: nothing to do beyond counting */
IndexBulkDeleteResult *
winnow_vacuumcleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	if (info->analyze_only)
		return stats;
	if (stats == NULL)
	{
		stats = palloc0(sizeof(IndexBulkDeleteResult));
		stats->num_index_tuples = info->num_heap_tuples;
		stats->estimated_count = true;
	}
	stats->num_pages = RelationGetNumberOfBlocks(info->index);
	return stats;
}
