/*
 * build.c
 *		CREATE INDEX.
 *
 * The levels of the tree are built one after the other, from the leaves up
 * (DESIGN.md, section 8).
 */
#include "postgres.h"

#include "winnow.h"

#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "storage/ipc.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

#include "calibrate.h"

/* Phases, as pg_stat_progress_create_index shows them; 1 is the server's */
#define PHASE_SAMPLE	2
#define PHASE_TRAIN		3
#define PHASE_DEAL		4
#define PHASE_LISTS		5
#define PHASE_CALIBRATE	6
#define PHASE_INNER		7
#define PHASE_WAL		8

char *
winnow_build_phase(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case PHASE_SAMPLE:
			return "sampling rows";
		case PHASE_TRAIN:
			return "finding centroids of lists";
		case PHASE_DEAL:
			return "assigning rows to lists";
		case PHASE_LISTS:
			return "writing lists";
		case PHASE_CALIBRATE:
			return "calibrating the search";
		case PHASE_INNER:
			return "building inner nodes";
		case PHASE_WAL:
			return "writing WAL";
		default:
			return NULL;
	}
}

static void
show_phase(int phase)
{
	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, phase);
}

/* What the view shows while the leader takes part in a phase; rows are counted anew */
static void
show_team_phase(const WinnowTeam *team)
{
	static const int phases[] = {
		[WINNOW_PHASE_SAMPLE] = PHASE_SAMPLE,
		[WINNOW_PHASE_GROUPS] = PHASE_TRAIN,
		[WINNOW_PHASE_REFINE] = PHASE_TRAIN,
		[WINNOW_PHASE_DEAL] = PHASE_DEAL,
		[WINNOW_PHASE_WRITE] = PHASE_LISTS,
		[WINNOW_PHASE_PLAY] = PHASE_CALIBRATE,
	};
	int			phase = phases[team->shared->phase];
	int64		nrows = phase == PHASE_LISTS ? team->shared->nindexed : 0;

	if (team->shared->level > 0)
		return;
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, nrows);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, 0);
	show_phase(phase);
}

/* One participant's share of the phase that the leader has called for */
void
winnow_build_run_phase(WinnowTeam *team)
{
	if (team->shows_progress)
		show_team_phase(team);
	switch (team->shared->phase)
	{
		case WINNOW_PHASE_SAMPLE:
			winnow_sample_stretches(team);
			break;
		case WINNOW_PHASE_GROUPS:
			winnow_centroids_groups(team);
			break;
		case WINNOW_PHASE_REFINE:
			winnow_centroids_refine(team);
			break;
		case WINNOW_PHASE_DEAL:
			winnow_cluster_deal(team);
			break;
		case WINNOW_PHASE_WRITE:
			winnow_cluster_write(team);
			break;
		case WINNOW_PHASE_PLAY:
			winnow_calibration_play(team);
			break;
	}
}

/* The root of a tree without rows */
static BlockNumber
write_empty_root(Relation rel, ForkNumber fork, const WinnowIndex *index)
{
	WinnowNode *root = winnow_node_alloc(index);
	WinnowRows	rows = {0};

	winnow_node_write(rel, fork, index, 0, &rows, false, root);
	return root->block;
}

/* The block of the only node of a level */
static BlockNumber
read_root(const WinnowTeam *team, int level)
{
	WinnowSpoolRow *row = winnow_spool_row_alloc(team->index->inner.image_bytes,
												 team->index->dims);
	BlockNumber root = InvalidBlockNumber;

	for (int part = 0; part < team->shared->nparts; part++)
	{
		WinnowSpool *nodes = winnow_nodes_open(team, level, part);

		while (winnow_spool_next(nodes, row))
			root = (BlockNumber) row->id;
		winnow_spool_close(nodes);
	}
	return root;
}

/*
 * Build the tree of a table's rows: root and tolerances of the stopping rule.
 */
static void
build_tree(WinnowTeam *team, WinnowMeta *meta)
{
	int64		nnodes;
	int			level = 0;

	nnodes = winnow_cluster_level(team, 0, 0);
	winnow_calibration_finish(team, (double) team->shared->nindexed, meta);
	show_phase(PHASE_INNER);
	while (nnodes > 1)
		nnodes = winnow_cluster_level(team, ++level, nnodes);
	meta->root = nnodes == 1 ? read_root(team, level) :
		write_empty_root(team->rel, MAIN_FORKNUM, team->index);
}

static void
write_meta(Relation rel, ForkNumber fork, const WinnowMeta *meta)
{
	Buffer		buffer = ReadBufferExtended(rel, fork, WINNOW_META_BLOCK, RBM_NORMAL, NULL);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	winnow_page_init(BufferGetPage(buffer), WINNOW_PAGE_META, InvalidXLogRecPtr);
	*WinnowPageGetMeta(BufferGetPage(buffer)) = *meta;
	((PageHeader) BufferGetPage(buffer))->pd_lower =
		MAXALIGN(SizeOfPageHeaderData) + sizeof(WinnowMeta);
	MarkBufferDirty(buffer);
	UnlockReleaseBuffer(buffer);
}

/*
 * Make the index's pages: the meta page, then the tree.  If there is a heap,
 * its rows are read; otherwise the index is empty.
 */
static void
build_pages(Relation heap, Relation rel, IndexInfo *info, ForkNumber fork,
			IndexBuildResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow build",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Buffer		buffer = winnow_extend_relation(rel, fork);
	WinnowIndex *index;
	WinnowMeta	meta;

	Assert(BufferGetBlockNumber(buffer) == WINNOW_META_BLOCK);
	UnlockReleaseBuffer(buffer);
	winnow_meta_fill(rel, &meta);
	index = winnow_index_create(rel, &meta, context);
	if (heap != NULL)
	{
		WinnowTeam *team = winnow_team_begin(heap, rel, info, index,
											 winnow_planned_workers(heap, rel, info));

		team->shows_progress = true;
		PG_ENSURE_ERROR_CLEANUP(winnow_team_abort, PointerGetDatum(team));
		{
			build_tree(team, &meta);
			winnow_team_end(team);
		}
		PG_END_ENSURE_ERROR_CLEANUP(winnow_team_abort, PointerGetDatum(team));
		result->heap_tuples = team->shared->heap_tuples;
		result->index_tuples = (double) team->shared->nindexed;
		meta.counted_rows = (uint64) team->shared->nindexed;
		for (int i = 0; i < meta.nattrs; i++)
			meta.attrs[i].shift = index->schema.attrs[i].shift;
		info->ii_BrokenHotChain |= team->shared->broken_hot_chain;
	}
	else
		meta.root = write_empty_root(rel, fork, index);
	write_meta(rel, fork, &meta);

	/* an init fork is always logged, for the standby's unlogged tables */
	if (RelationNeedsWAL(rel) || fork == INIT_FORKNUM)
	{
		if (fork == MAIN_FORKNUM)
			show_phase(PHASE_WAL);
		log_newpage_range(rel, fork, 0, RelationGetNumberOfBlocksInFork(rel, fork), true);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ambuild */
IndexBuildResult *
winnow_build(Relation heap, Relation rel, IndexInfo *info)
{
	IndexBuildResult *result = palloc0(sizeof(IndexBuildResult));

	if (RelationGetNumberOfBlocks(rel) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(rel));
	WINNOW_WAIT_POINT("build");
	build_pages(heap, rel, info, MAIN_FORKNUM, result);
	if (result->heap_tuples > 0)
		winnow_analyze_new(heap);
	WINNOW_WAIT_POINT("built");
	return result;
}

/* ambuildempty: the init fork of an unlogged index */
void
winnow_build_empty(Relation rel)
{
	build_pages(NULL, rel, NULL, INIT_FORKNUM, NULL);
}
