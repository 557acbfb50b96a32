/*
 * insert.c
 *		Adding a row: descend, widen summaries, append to the leaf.
 *
 * DESIGN.md, sections 3 and 5, says which lock covers what.
 */
#include "postgres.h"

#include "winnow.h"

#include <float.h>
#include <math.h>

#include "common/pg_prng.h"
#include "core/mean.h"
#include "utils/memutils.h"

/*
 * Ways to a leaf that may turn out to be out of date before the index is taken
 * to be damaged.  Each takes a split, just in that moment.
 */
#define MAX_DESCENTS 100

/* Times that a child's statistics are to be changed while as many rows come to it as it has */
#define CHANGES 16

/* A list that should be split is tried again when it has got that part of list_size more */
#define TRIES_IN_LIST 16

/* Kept for all the rows of a statement */
typedef struct WinnowInsertState
{
	const WinnowIndex *index;
	WinnowDescent *descent;
	float	   *vector;
	float	   *centroid;
	uint8	   *image;
	uint8	   *code;
	uint8	   *record;			/* refinement code, if the index has them */
	MemoryContext row_context;
} WinnowInsertState;

static WinnowInsertState *
insert_state(Relation rel, IndexInfo *info)
{
	WinnowInsertState *state = info->ii_AmCache;

	if (state == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(info->ii_Context);

		state = palloc0(sizeof(WinnowInsertState));
		state->index = winnow_index_open(rel, info->ii_Context);
		state->descent = winnow_descent_begin(rel, state->index);
		state->vector = palloc(sizeof(float) * state->index->dims);
		state->centroid = palloc(sizeof(float) * state->index->dims);
		state->image = palloc0(Max(state->index->leaf.image_bytes, 1));
		state->code = palloc(state->index->code_bytes);
		state->record = palloc(Max(state->index->leaf.record_bytes, 1));
		state->row_context = AllocSetContextCreate(info->ii_Context, "winnow insert",
												   ALLOCSET_DEFAULT_SIZES);
		MemoryContextSwitchTo(old);
		info->ii_AmCache = state;
	}
	return state;
}

/*
 * How many times the mean squared distance of a child's rows a row counts as away.  Outliers among the rows are no
 * more than WINNOW_OUTLIERS, so that they do not move the mean, even all together; if there are more, they are none.
 * By inner products long vectors are what is looked for.
 */
static double
counted_distance(const WinnowIndex *index, const WinnowChildStats *stats, float squared)
{
	double		far = stats->radius2 > 0 ? squared / stats->radius2 : 1;

	return index->metric == WINNOW_METRIC_IP ? far : Min(far, 1 / WINNOW_OUTLIERS);
}

/*
 * How many rows a row at that squared distance is to stand for in its child's statistics, or 0: now and then one
 * is counted for all, and the sooner the farther away it is.  What comes out is right on average, for as
 * good as no WAL.
 */
static double
drawn_weight(const WinnowIndex *index, const WinnowChildStats *stats, float squared)
{
	double		chance = CHANGES * Max(counted_distance(index, stats, squared), 1) / Max(stats->rows, 1);

	if (!(squared <= FLT_MAX) || pg_prng_double(&pg_global_prng_state) >= chance)
		return 0;
	return Max(1 / chance, 1);
}

static void
count_row(const WinnowIndex *index, WinnowChildStats *stats, double weight, float squared)
{
	double		rows = stats->rows + weight;
	/* where all rows were equal, the first other one tells how far apart they are now */
	double		counted = stats->radius2 > 0 ? stats->radius2 * counted_distance(index, stats, squared) : squared;

	stats->radius2 = winnow_to_float((stats->radius2 * (double) stats->rows + counted * weight) / rows);
	stats->rows = (uint32) Min(rint(rows), PG_UINT32_MAX);
}

/*
 * Make the summary of a child cover the row, and its statistics count it so many times, if the step is still
 * current
 */
static void
change_child(Relation rel, const WinnowIndex *index, const WinnowStep *step,
			 const uint8 *leaf_image, double weight, float squared)
{
	uint8		image[sizeof(WinnowChildStats) + WINNOW_MAX_IMAGE];
	uint8	   *summary = image + sizeof(WinnowChildStats);
	WinnowChildStats stats;
	bool		farther;
	Buffer		first;
	Buffer		group;

	if (!winnow_step_lock(rel, index, step, BUFFER_LOCK_EXCLUSIVE, &first, &group))
		return;
	winnow_row_image(&index->inner, BufferGetPage(group), step->slot, image);
	memcpy(&stats, image, sizeof(stats));
	if (weight > 0)
		count_row(index, &stats, weight, squared);
	farther = winnow_stats_reach(index, &stats, squared);
	memcpy(image, &stats, sizeof(stats));
	if (winnow_summary_add_row(&index->schema, summary, leaf_image) || farther || weight > 0)
	{
		GenericXLogState *xlog = GenericXLogStart(rel);
		Page		page = GenericXLogRegisterBuffer(xlog, group, 0);

		winnow_row_set_image(&index->inner, page, step->slot, image);
		GenericXLogFinish(xlog);
	}
	winnow_step_unlock(first, group);
}

static void
unlock_path(const Buffer *held, int nheld)
{
	while (nheld > 0)
		UnlockReleaseBuffer(held[--nheld]);
}

/*
 * Lock the first head pages of the path's inner nodes, share, from the root
 * down, when the summaries along the path cover the row: while these locks are
 * held nobody makes a summary narrower, and the path stays current.  Returns
 * false, with nothing locked, if it is not current any more.
 */
static bool
lock_path(Relation rel, const WinnowIndex *index, const WinnowPath *path,
		  const uint8 *leaf_image, Buffer *held)
{
	uint8		image[sizeof(WinnowChildStats) + WINNOW_MAX_IMAGE];

	for (int i = 0; i < path->nsteps; i++)
	{
		const WinnowStep *step = &path->steps[i];
		double		weight = -1;
		bool		covered = false;
		Buffer		group;

		while (!covered)
		{
			WinnowChildStats stats;

			if (!winnow_step_lock(rel, index, step, BUFFER_LOCK_SHARE, &held[i], &group))
			{
				unlock_path(held, i);
				return false;
			}
			winnow_row_image(&index->inner, BufferGetPage(group), step->slot, image);
			memcpy(&stats, image, sizeof(stats));
			weight = weight < 0 ? drawn_weight(index, &stats, path->squared[i]) : 0;
			covered = weight == 0 && !winnow_stats_reach(index, &stats, path->squared[i]) &&
				winnow_summary_covers_row(&index->schema, image + sizeof(WinnowChildStats),
										  leaf_image);
			/* those of inner nodes are full */
			if (covered && i == path->nsteps - 1)
				winnow_imprint_cover(rel, index, group, step->slot, leaf_image);
			if (group != held[i])
				UnlockReleaseBuffer(group);
			if (covered)
				break;
			UnlockReleaseBuffer(held[i]);
			change_child(rel, index, step, leaf_image, weight, path->squared[i]);
		}
	}
	return true;
}

/*
 * Append the row to the leaf at the end of the path.  Returns false if the
 * leaf has been split since.  *nlive is the number of live rows it has then.
 */
static bool
append_to_leaf(Relation rel, WinnowInsertState *state, BlockNumber leaf, ItemPointer tid,
			   int *nlive)
{
	const WinnowIndex *index = state->index;
	Buffer		first = winnow_read_head(index, rel, leaf, 0, BUFFER_LOCK_EXCLUSIVE);
	WinnowGroup *group = WinnowPageGetGroup(BufferGetPage(first));
	GenericXLogState *xlog;
	WinnowRoom	room;

	if (group->flags & WINNOW_RETIRED)
	{
		UnlockReleaseBuffer(first);
		return false;
	}
	winnow_centroid_read(rel, index, group->data, group->ndata, InvalidXLogRecPtr,
						 state->centroid);
	winnow_encode(state->vector, state->centroid, index->dims, state->code);
	if (index->bits > 1)
		winnow_record_refine(index, state->vector, state->centroid, state->record);

	winnow_room_find(rel, index, first, InvalidBuffer, &room);
	if (index->bits > 1)
		winnow_record_add(rel, &room, state->record);
	xlog = GenericXLogStart(rel);
	winnow_room_fill_row(xlog, &room, winnow_tid_pack(tid), state->image);
	winnow_room_fill_code(rel, index, xlog, &room, state->code);
	GenericXLogFinish(xlog);
	*nlive = room.nlive + 1;
	winnow_room_release(&room);
	UnlockReleaseBuffer(first);
	return true;
}

/*
 * Is it time to split a list that has nlive rows now?  What was in the way of the
 * last try (VACUUM, or that the rows are all dead) is not gone with every row.
 */
static bool
is_split_due(const WinnowIndex *index, int nlive)
{
	int			excess = nlive - WINNOW_LIST_LIMIT(index->list_size);

	return excess > 0 && (excess - 1) % Max(index->list_size / TRIES_IN_LIST, 1) == 0;
}

/*
 * aminsert.  Rows without a vector are not indexed.
 */
bool
winnow_insert(Relation rel, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
			  IndexUniqueCheck unique, bool unchanged, IndexInfo *info)
{
	WinnowInsertState *state = insert_state(rel, info);
	const WinnowIndex *index = state->index;
	int			vector_attno = index->schema.vector_attno;
	MemoryContext old;
	WinnowPath	path;
	Buffer		held[WINNOW_MAX_LEVELS];
	bool		appended = false;
	int			ndescents = 0;
	int			nlive;

	if (isnull[vector_attno])
		return false;
	old = MemoryContextSwitchTo(state->row_context);
	winnow_encode_attrs(&index->schema, values, isnull, state->image);
	winnow_index_vector(index, values[vector_attno], state->vector);
	do
	{
		if (ndescents++ == MAX_DESCENTS)
			winnow_corrupted(rel, path.leaf, "It is retired, or a node above it is.");
		winnow_descend(state->descent, state->vector, &path);
		WINNOW_WAIT_POINT("insert-descended");
		if (!lock_path(rel, index, &path, state->image, held))
			continue;
		WINNOW_WAIT_POINT("insert-locked");
		appended = append_to_leaf(rel, state, path.leaf, tid, &nlive);
		unlock_path(held, path.nsteps);
	} while (!appended);
	if (is_split_due(index, nlive))
		winnow_split(rel, heap, index, &path);
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->row_context);
	return false;
}
