/*
 * build.c
 *		CREATE INDEX.
 *
 * The table is read once into a spool.  Each level of the tree is clustered
 * from its spool and emits the rows of the next (DESIGN.md, section 8).
 */
#include "postgres.h"

#include "winnow.h"

#include "access/tableam.h"
#include "access/xloginsert.h"
#include "catalog/index.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

#include "cluster.h"
#include "spool.h"

/* Phases, as pg_stat_progress_create_index shows them; 1 is the server's */
#define PHASE_LOAD		2
#define PHASE_LISTS		3
#define PHASE_INNER		4
#define PHASE_WAL		5

typedef struct BuildState
{
	Relation	rel;
	const WinnowIndex *index;
	WinnowSpool *spool;			/* of the leaf rows */
	float	   *vector;
	uint8	   *image;
	MemoryContext row_context;
	int64		nindexed;
} BuildState;

char *
winnow_build_phase(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case PHASE_LOAD:
			return "loading rows";
		case PHASE_LISTS:
			return "clustering rows into lists";
		case PHASE_INNER:
			return "building inner nodes";
		case PHASE_WAL:
			return "writing WAL";
		default:
			return NULL;
	}
}

/* Take one heap row into the spool */
static void
build_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive,
		  void *arg)
{
	BuildState *state = arg;
	const WinnowIndex *index = state->index;
	MemoryContext old;

	if (isnull[index->schema.vector_attno])
		return;
	old = MemoryContextSwitchTo(state->row_context);
	winnow_encode_attrs(&index->schema, values, isnull, state->image);
	winnow_index_vector(index, values[index->schema.vector_attno], state->vector);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row_context);
	winnow_spool_add(state->spool, winnow_tid_pack(tid), state->image, state->vector);
	state->nindexed++;
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, state->nindexed);
}

/*
 * Build all levels from the spool of the leaf rows: the root, and the
 * tolerances of the stopping rule.
 */
static void
build_levels(Relation rel, ForkNumber fork, const WinnowIndex *index, WinnowSpool *spool,
			 Size budget, WinnowMeta *meta)
{
	WinnowCalibration *calibration = winnow_calibration_create(index);
	int			level;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_LISTS);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, winnow_spool_count(spool));
	for (level = 0; winnow_spool_count(spool) > index->list_size; level++)
	{
		WinnowSpool *parents = winnow_spool_create(index, level + 1, budget / 4);

		if (level == 1)
			pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_INNER);
		winnow_cluster_spool(rel, fork, index, level, spool, parents,
							 level == 0 ? calibration : NULL);
		winnow_spool_free(spool);
		spool = parents;
	}
	{
		WinnowNode *root = winnow_node_alloc(index);
		WinnowRows *rows = winnow_spool_load(spool);

		rows->nknown = rows->count;
		winnow_node_write(rel, fork, index, level, rows, false, root);
		winnow_spool_free(spool);
		meta->root = root->block;
	}
	winnow_calibration_finish(calibration, meta);
}

/*
 * Make the index's pages: the meta page, then the tree.  If there is a heap,
 * its rows are read; otherwise the index is empty.
 */
static double
build_pages(Relation heap, Relation rel, IndexInfo *info, ForkNumber fork, int64 *nindexed)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow build",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Size		budget = (Size) maintenance_work_mem * 1024;
	Buffer		buffer = winnow_extend_relation(rel, fork);
	BuildState	state = {0};
	double		nrows = 0;
	WinnowMeta	meta;

	Assert(BufferGetBlockNumber(buffer) == WINNOW_META_BLOCK);
	UnlockReleaseBuffer(buffer);
	winnow_meta_fill(rel, &meta);
	state.rel = rel;
	state.index = winnow_index_create(rel, &meta, context);
	state.spool = winnow_spool_create(state.index, 0, budget - budget / 4);
	if (heap != NULL)
	{
		state.vector = palloc(sizeof(float) * state.index->dims);
		state.image = palloc0(Max(state.index->leaf.image_bytes, 1));
		state.row_context = AllocSetContextCreate(context, "winnow build row",
												  ALLOCSET_DEFAULT_SIZES);
		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_LOAD);
		nrows = table_index_build_scan(heap, rel, info, true, true, build_row, &state, NULL);
	}
	*nindexed = state.nindexed;
	build_levels(rel, fork, state.index, state.spool, budget, &meta);

	buffer = ReadBufferExtended(rel, fork, WINNOW_META_BLOCK, RBM_NORMAL, NULL);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	winnow_page_init(BufferGetPage(buffer), WINNOW_PAGE_META);
	*WinnowPageGetMeta(BufferGetPage(buffer)) = meta;
	((PageHeader) BufferGetPage(buffer))->pd_lower =
		MAXALIGN(SizeOfPageHeaderData) + sizeof(WinnowMeta);
	MarkBufferDirty(buffer);
	UnlockReleaseBuffer(buffer);

	/* an init fork is always logged, for the standby's unlogged tables */
	if (RelationNeedsWAL(rel) || fork == INIT_FORKNUM)
	{
		if (fork == MAIN_FORKNUM)
			pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, PHASE_WAL);
		log_newpage_range(rel, fork, 0, RelationGetNumberOfBlocksInFork(rel, fork), true);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return nrows;
}

/* ambuild */
IndexBuildResult *
winnow_build(Relation heap, Relation rel, IndexInfo *info)
{
	IndexBuildResult *result = palloc(sizeof(IndexBuildResult));
	int64		nindexed;

	if (RelationGetNumberOfBlocks(rel) != 0)
		elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(rel));
	result->heap_tuples = build_pages(heap, rel, info, MAIN_FORKNUM, &nindexed);
	result->index_tuples = (double) nindexed;
	return result;
}

/* ambuildempty: the init fork of an unlogged index */
void
winnow_build_empty(Relation rel)
{
	int64		nindexed;

	build_pages(NULL, rel, NULL, INIT_FORKNUM, &nindexed);
}
