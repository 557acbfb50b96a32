/*
 * recalibrate.c
 *		The calibration of the stopping rule, anew, for an index that has changed.
 *
 * VACUUM does this when more than a quarter of the rows have come since the last
 * calibration, or more than half are gone.  It goes through the same steps as a
 * build (calibrate.c), but takes the lists from the index as it is, and their
 * rows' vectors from the table.  Of a large table it looks at some of the rows
 * only, as if a filter let no others pass: what the tolerances are hardly
 * depends on that.
 *
 * Before that, and already when one row in twenty is new, lists are clustered anew
 * (regroup.c).
 *
 * The structure lock is not held.  Pages that nodes had are not reused meanwhile,
 * since only VACUUM frees pages.
 */
#include "postgres.h"

#include "calibrate.h"
#include "fetch.h"

#include "access/table.h"
#include "catalog/index.h"
#include "commands/vacuum.h"
#include "storage/ipc.h"
#include "utils/inval.h"
#include "utils/memutils.h"

/* Rows that are looked at, and those among which queries are chosen */
#define LOOKED_AT 200000
#define SAMPLED 8000

/*
 * Lists are clustered anew when one row in so many has come since; for each, so many
 * rows, since its neighbours have to move too
 */
#define UNSETTLED_SHARE 20
#define SETTLED_ROWS 2

/* The relation may grow for that until one page in so many is free afterwards */
#define SPARE_SHARE 16

typedef struct Recalibration
{
	Relation	rel;
	const WinnowIndex *index;
	WinnowFetch *fetch;
	WinnowNode *node;			/* the list at hand, as calibrate.c wants to have it */
	WinnowRows	rows;
	int			allocated;
	double		rate;			/* share of the rows that are taken */
	int			salt;
	WinnowSpool *sample;		/* first walk: where they go */
	WinnowSpoolRow *row;
	WinnowCalibration *calibration; /* second walk */
	uint64		nlists;
} Recalibration;

/* The rows of the view that are taken, with their vectors */
static void
take_rows(Recalibration *state, const WinnowView *view)
{
	WinnowRows *rows = &state->rows;

	for (int i = 0; i < view->nselected; i++)
	{
		if (winnow_key_draw(view->ids[i], state->salt) >= state->rate)
			continue;
		if (rows->count == state->allocated)
		{
			state->allocated = Max(64, state->allocated * 2);
			rows->ids = rows->ids ?
				repalloc(rows->ids, sizeof(uint64) * state->allocated) :
				palloc(sizeof(uint64) * state->allocated);
			rows->vectors = rows->vectors ?
				repalloc_huge(rows->vectors, sizeof(float) * state->index->dims * state->allocated) :
				palloc_extended(sizeof(float) * state->index->dims * state->allocated,
								MCXT_ALLOC_HUGE);
		}
		if (!winnow_fetch_vector(state->fetch, state->index, view->ids[i],
								 rows->vectors + (Size) rows->count * state->index->dims))
			continue;
		rows->ids[rows->count++] = view->ids[i];
	}
}

/* A list: its parent says what the stats are */
static void
look_at_list(Recalibration *state, BlockNumber list, const WinnowChildStats *stats)
{
	WinnowView *view = winnow_view_alloc(state->index);
	Size		dims = state->index->dims;

	state->rows.count = 0;
	for (BlockNumber block = list; BlockNumberIsValid(block); block = view->next)
	{
		winnow_vacuum_delay();
		winnow_view_read(state->rel, state->index, block, 0, InvalidXLogRecPtr, NULL, view);
		if (view->number == 0 && state->calibration)
			winnow_centroid_read(state->rel, state->index, view->data, view->ndata,
								 InvalidXLogRecPtr, state->node->centroid);
		take_rows(state, view);
	}
	winnow_fetch_idle(state->fetch);
	winnow_view_free(view);
	if (state->calibration)
	{
		memcpy(state->node->image, stats, sizeof(*stats));
		winnow_calibration_list(state->calibration, state->nlists, &state->rows, state->node);
	}
	else
		for (int i = 0; i < state->rows.count; i++)
		{
			state->row->key = state->rows.ids[i];
			memcpy(state->row->vector, state->rows.vectors + i * dims, sizeof(float) * dims);
			winnow_spool_add(state->sample, state->row);
		}
	state->nlists++;
}

/* All lists below an inner node */
static void
look_below(Recalibration *state, BlockNumber node, int level)
{
	WinnowView *view = winnow_view_alloc(state->index);

	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(state->rel, state->index, block, level, InvalidXLogRecPtr, NULL, view);
		for (int i = 0; i < view->nselected; i++)
			if (level > 1)
				look_below(state, (BlockNumber) view->ids[i], level - 1);
			else
				look_at_list(state, (BlockNumber) view->ids[i], &view->stats[i]);
	}
	winnow_view_free(view);
}

/* Walk over all lists, taking about "most" of the rows */
static void
walk(Recalibration *state, double nrows, double most, int salt)
{
	WinnowView *view = winnow_view_alloc(state->index);
	BlockNumber root = winnow_read_root(state->rel, NULL);

	state->nlists = 0;
	state->rate = most / nrows;
	state->salt = salt;
	winnow_view_read(state->rel, state->index, root, -1, InvalidXLogRecPtr, NULL, view);
	if (view->level > 0)
		look_below(state, root, view->level);
	winnow_view_free(view);
}

/* The steps of calibrate.c, by this process alone */
static void
calibrate(Recalibration *state, WinnowTeam *team, double nrows, WinnowMeta *meta)
{
	int			dims = state->index->dims;

	team->shared->nsamples = 1;
	state->sample = winnow_spool_create(&team->files, "sample", 0, 0, dims);
	state->row = winnow_spool_row_alloc(0, dims);
	walk(state, nrows, SAMPLED, WINNOW_SALT_SAMPLED);
	winnow_spool_close(state->sample);
	winnow_calibration_seed(team);
	state->calibration = winnow_calibration_open(team);
	state->node = winnow_node_alloc(state->index);
	team->shared->nparts = 1;
	winnow_calibration_begin_part(state->calibration, 0);
	walk(state, nrows, LOOKED_AT, WINNOW_SALT_LOOKED_AT);
	winnow_calibration_end_part(state->calibration);
	winnow_calibration_close(state->calibration);
	winnow_calibration_finish(team, nrows, meta);
}

/* Set the meta page's counts of rows, and what the stopping rule needs */
static void
write_meta(Relation rel, const WinnowMeta *found)
{
	Buffer		buffer = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
										  BUFFER_LOCK_EXCLUSIVE);
	GenericXLogState *xlog = GenericXLogStart(rel);
	WinnowMeta *meta = WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, buffer, 0));

	meta->effective_dim = found->effective_dim;
	memcpy(meta->tolerance, found->tolerance, sizeof(meta->tolerance));
	meta->calibrated_rows = found->calibrated_rows;
	meta->counted_rows = found->counted_rows;
	meta->new_rows = found->new_rows;
	meta->unsettled_rows = found->unsettled_rows;
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(buffer);
}

/* VACUUM has counted the rows, of which it has removed some before */
void
winnow_note_rows(Relation rel, double nrows, double nremoved)
{
	WinnowMeta	meta = winnow_read_meta(rel, NULL);
	double		ncame = Max(0, nrows + nremoved - meta.counted_rows);

	if (ncame < 1 && nrows == meta.counted_rows)
		return;
	meta.counted_rows = (uint64) nrows;
	meta.new_rows += (uint64) ncame;
	meta.unsettled_rows = Min(meta.unsettled_rows + (uint64) (SETTLED_ROWS * ncame), (uint64) nrows);
	write_meta(rel, &meta);
}

/* About how many rows are below the root */
static double
rows_below_root(Relation rel, const WinnowIndex *index)
{
	WinnowView *view = winnow_view_alloc(index);
	double		nrows = 0;

	for (BlockNumber block = winnow_read_root(rel, NULL); BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(rel, index, block, -1, InvalidXLogRecPtr, NULL, view);
		if (view->level == 0)
			nrows += view->nlive;
		else
			for (int i = 0; i < view->nselected; i++)
				nrows += view->stats[i].rows;
	}
	winnow_view_free(view);
	return nrows;
}

/* Have so many rows come since they were counted last that they are to be counted again? */
bool
winnow_count_pays(Relation rel)
{
	WinnowIndex *index = winnow_index_open(rel, CurrentMemoryContext);
	double		ncounted = (double) winnow_read_meta(rel, NULL).counted_rows;
	double		nrows = rows_below_root(rel, index);

	pfree(index);
	return nrows - ncounted > nrows / UNSETTLED_SHARE;
}

static void
recalibrate(Relation rel, Relation heap, const WinnowIndex *index, double nrows,
			WinnowMeta *meta)
{
	Recalibration state = {0};
	WinnowTeam *team;

	state.rel = rel;
	state.index = index;
	state.fetch = winnow_fetch_begin(heap, rel,
								   bms_make_singleton(state.index->schema.vector_attno));
	winnow_calibration_default(meta);
	team = winnow_team_begin(heap, rel, BuildIndexInfo(rel), state.index, 0);
	PG_ENSURE_ERROR_CLEANUP(winnow_team_abort, PointerGetDatum(team));
	{
		calibrate(&state, team, nrows, meta);
		winnow_team_end(team);
	}
	PG_END_ENSURE_ERROR_CLEANUP(winnow_team_abort, PointerGetDatum(team));
	winnow_fetch_end(state.fetch);
	meta->new_rows = 0;
}

/*
 * Follow what has happened to the rows, of which the index has nrows now: cluster
 * lists anew for those that have come, as far as there are pages (nfree are free), and
 * calibrate if enough has changed.
 */
void
winnow_follow(Relation rel, double nrows, BlockNumber nfree)
{
	WinnowMeta	meta = winnow_read_meta(rel, NULL);
	double		unsettled = meta.unsettled_rows;
	bool		due = nrows >= 1 &&
		(meta.new_rows > nrows / 4 || nrows < meta.calibrated_rows / 2.0);
	MemoryContext context;
	MemoryContext old;
	WinnowIndex *index;
	Relation	heap;

	if (!due && unsettled < SETTLED_ROWS * nrows / UNSETTLED_SHARE)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "winnow calibration",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	index = winnow_index_open(rel, context);
	heap = table_open(rel->rd_index->indrelid, AccessShareLock);
	if (winnow_vectors_available(heap, rel, index, 0))
	{
		meta.unsettled_rows = (uint64) winnow_regroup(rel, heap, index, unsettled,
													  Max(nfree, RelationGetNumberOfBlocks(rel) / SPARE_SHARE));
		if (due)
			recalibrate(rel, heap, index, nrows, &meta);
		if (due || meta.unsettled_rows != (uint64) unsettled)
			write_meta(rel, &meta);

		/* backends keep a copy */
		if (due)
			CacheInvalidateRelcache(rel);
	}
	table_close(heap, AccessShareLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
