/*
 * cluster.c
 *		Rows into nodes.
 *
 * For each level centroids are trained on a sample, every row is dealt out by
 * the list of its nearest centroid to one of some parts, and the lists of each
 * part become nodes, which are the rows of the next level.  A part is a range
 * of lists small enough for its rows to be in memory, as far as the sample can
 * tell; one that is not is dealt out again.
 */
#include "postgres.h"

#include "calibrate.h"

#include <math.h>

#include "access/tableam.h"
#include "catalog/index.h"
#include "core/kmeans.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Lists with less than this share of a node are dealt out to the others */
#define SMALL_LIST 0.125

/*
 * Bytes of a part, where that does not take more than WINNOW_MAX_PARTS: little,
 * so that participants are done at about the same time, and less than what is
 * in memory at once, since the sample is only a sample.
 */
#define PART_BYTES(unit) Min(4.0 * 1024 * 1024, (unit) / 2.0)

/* Lists at once: what a row is compared with grows with their square root */
#define MAX_LISTS 65536

/* A piece with more than this share of a list's rows is no progress */
#define GIANT_PIECE 0.8

/* How many lists to make of so many rows: what a node takes, and memory */
int
winnow_cluster_lists(const WinnowTeam *team, int level, double nrows)
{
	double		wanted = ceil(nrows / (winnow_layout(team->index, level)->size * WINNOW_CLUSTER_FILL));
	double		most = floor((double) team->shared->unit / (sizeof(float) * team->index->dims));

	return (int) Max(Min(wanted, Min(most, MAX_LISTS)), 1);
}

/* Rows of a part that are in memory at once: some lists at least */
static int64
most_rows(const WinnowTeam *team)
{
	const WinnowLayout *layout = winnow_layout(team->index, team->shared->level);
	Size		bytes = winnow_spool_row_bytes(layout->image_bytes, team->index->dims);

	return Max(Min((int64) (team->shared->unit / bytes), PG_INT32_MAX / 8),
			   4 * team->index->list_size);
}

/* The nodes that were made of a part, as rows of the next level */
WinnowSpool *
winnow_nodes_open(const WinnowTeam *team, int level, int part)
{
	return winnow_spool_open(&team->files, "nodes", level * WINNOW_MAX_PARTS + part,
							 team->index->inner.image_bytes, team->index->dims);
}

static void
delete_nodes(const WinnowTeam *team, int level, int nparts)
{
	for (int part = 0; part < nparts; part++)
		winnow_file_delete(&team->files, "nodes", level * WINNOW_MAX_PARTS + part);
}

/*
 * Dealing
 */

typedef struct DealState
{
	WinnowTeam *team;
	int			image_bytes;
	WinnowCentroids *centroids;
	int			first[WINNOW_MAX_PARTS + 1];	/* lists of the parts */
	WinnowSpool *parts[WINNOW_MAX_PARTS];
	WinnowSpoolRow *row;
	MemoryContext row_context;	/* for one row of the table */
	MemoryContext context;
	int64		count;
} DealState;

/*
 * The first list of every part, so that all get about as many rows, judging by
 * the sample; first[nparts] is the end.
 */
static void
share_lists(const WinnowCentroids *centroids, int nparts, int *first)
{
	int64		total = 0;
	int64		seen = 0;
	int			part = 0;

	for (int l = 0; l < centroids->count; l++)
		total += centroids->share[l] + 1;
	first[0] = 0;
	for (int l = 0; l < centroids->count; l++)
	{
		while (part + 1 < nparts && seen * nparts >= total * (part + 1))
			first[++part] = l;
		seen += centroids->share[l] + 1;
	}
	while (part < nparts)
		first[++part] = centroids->count;
}

/* The part that a list belongs to: the last one that begins before it ends */
static int
part_of(const DealState *state, int list)
{
	int			low = 0;
	int			high = state->team->shared->nparts - 1;

	while (low < high)
	{
		int			middle = (low + high + 1) / 2;

		if (state->first[middle] <= list)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Put state->row into its part */
static void
deal_row(DealState *state)
{
	const WinnowFiles *files = &state->team->files;
	int			part;

	state->row->list = winnow_centroids_assign(state->centroids, state->row->vector);
	part = part_of(state, (int) state->row->list);
	if (state->parts[part] == NULL)
		state->parts[part] = winnow_spool_create(files, "part", part, state->image_bytes,
												 state->team->index->dims);
	winnow_spool_add(state->parts[part], state->row);
	state->count++;
}

/* Take one row of the table */
static void
deal_table_row(Relation rel, ItemPointer tid, Datum *values, bool *isnull, bool alive,
			   void *arg)
{
	DealState  *state = arg;
	const WinnowIndex *index = state->team->index;
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	if (isnull[index->schema.vector_attno])
		return;
	state->row->key = state->row->id = winnow_tid_pack(tid);
	old = MemoryContextSwitchTo(state->row_context);
	winnow_encode_attrs(&index->schema, values, isnull, state->row->image);
	winnow_index_vector(index, values[index->schema.vector_attno], state->row->vector);
	MemoryContextSwitchTo(state->context);
	MemoryContextReset(state->row_context);
	deal_row(state);
	MemoryContextSwitchTo(old);
	winnow_team_progress(state->team, 1);
}

static void
deal_table(DealState *state)
{
	WinnowTeam *team = state->team;
	TableScanDesc scan = NULL;
	double		heap_tuples;

	state->row_context = AllocSetContextCreate(CurrentMemoryContext, "winnow build row",
											   ALLOCSET_DEFAULT_SIZES);
	if (team->scan != NULL)
		scan = table_beginscan_parallel(team->heap, team->scan);
	heap_tuples = table_index_build_scan(team->heap, team->rel, team->info, true,
										 winnow_team_leads(team), deal_table_row, state, scan);
	SpinLockAcquire(&team->shared->mutex);
	team->shared->heap_tuples += heap_tuples;
	team->shared->nindexed += state->count;
	team->shared->broken_hot_chain |= team->info->ii_BrokenHotChain;
	SpinLockRelease(&team->shared->mutex);
	MemoryContextDelete(state->row_context);
}

static void
deal_nodes(DealState *state)
{
	WinnowTeam *team = state->team;

	for (int part = 0; part < team->shared->nsources; part++)
	{
		WinnowSpool *nodes = winnow_nodes_open(team, team->shared->level - 1, part);

		while (winnow_spool_next(nodes, state->row))
		{
			CHECK_FOR_INTERRUPTS();
			deal_row(state);
		}
		winnow_spool_close(nodes);
	}
}

/* A phase: every row to its list's part */
void
winnow_cluster_deal(WinnowTeam *team)
{
	DealState  *state = palloc0(sizeof(DealState));

	state->team = team;
	state->image_bytes = winnow_layout(team->index, team->shared->level)->image_bytes;
	state->centroids = winnow_centroids_read(team);
	state->row = winnow_spool_row_alloc(state->image_bytes, team->index->dims);
	state->context = CurrentMemoryContext;
	share_lists(state->centroids, team->shared->nparts, state->first);
	if (team->shared->level == 0)
		deal_table(state);
	else
		deal_nodes(state);
	for (int part = 0; part < team->shared->nparts; part++)
		if (state->parts[part] != NULL)
			winnow_spool_close(state->parts[part]);
}

/*
 * Writing
 */

typedef struct WriteState
{
	WinnowTeam *team;
	int			level;
	int			image_bytes;
	int64		most;			/* rows in memory */
	int			part;
	uint32		nnodes;			/* made of the part */
	int			npieces;		/* numbers of files used */
	WinnowSpool *nodes;			/* receives a row for every node */
	WinnowSpoolRow *parent;
	WinnowNode *node;
	WinnowCalibration *calibration; /* or NULL */
} WriteState;

static WinnowRows
slice(const WriteState *state, const WinnowRows *rows, int start, int count)
{
	WinnowRows	part;

	part.count = count;
	part.nknown = count;
	part.ids = rows->ids + start;
	part.images = rows->images + (Size) start * state->image_bytes;
	part.vectors = rows->vectors + (Size) start * state->team->index->dims;
	return part;
}

static void
write_node(WriteState *state, const WinnowRows *rows)
{
	WinnowTeam *team = state->team;
	WinnowSpoolRow *parent = state->parent;

	winnow_node_write(team->rel, MAIN_FORKNUM, team->index, state->level, rows, false,
					  state->node);
	parent->key = ((uint64) state->part << 32) | state->nnodes++;
	parent->id = state->node->block;
	winnow_spool_add(state->nodes, parent);
	if (state->calibration != NULL)
		winnow_calibration_list(state->calibration, parent->key, rows, state->node);
	if (state->level == 0)
		winnow_team_progress(team, rows->count);
}

/*
 * Make nodes of the rows of one list: one, or as many as halving it takes.
 */
static void
write_list(WriteState *state, WinnowRows *rows)
{
	int			dims = state->team->index->dims;
	float	   *centroids;
	uint8	   *side;
	int32	   *from;
	void	   *scratch;
	int			cut = 0;
	int			n = 0;

	check_stack_depth();
	if (rows->count <= winnow_layout(state->team->index, state->level)->size)
	{
		write_node(state, rows);
		return;
	}
	centroids = palloc(sizeof(float) * 2 * dims);
	side = palloc_extended(rows->count, MCXT_ALLOC_HUGE);
	from = palloc_extended(sizeof(int32) * rows->count, MCXT_ALLOC_HUGE);
	scratch = palloc_extended(winnow_split_scratch_bytes(rows->count, dims), MCXT_ALLOC_HUGE);
	winnow_split_two(rows->vectors, rows->count, dims, rows->count, centroids, side, scratch,
					 winnow_check_interrupts, NULL);
	for (int half = 0; half < 2; half++)
	{
		for (int i = 0; i < rows->count; i++)
			if (side[i] == half)
				from[n++] = i;
		if (half == 0)
			cut = n;
	}
	winnow_rows_arrange(rows, state->image_bytes, dims, from);
	pfree(scratch);
	pfree(from);
	pfree(side);
	pfree(centroids);
	for (int half = 0; half < 2; half++)
	{
		WinnowRows	mine = half == 0 ? slice(state, rows, 0, cut) :
			slice(state, rows, cut, rows->count - cut);

		write_list(state, &mine);
	}
}

/* Make the nodes of some lists whose rows are in memory, in order */
static void
write_lists(WriteState *state, WinnowBatch *batch)
{
	int			start = 0;

	for (int i = 1; i <= batch->rows.count; i++)
		if (i == batch->rows.count || batch->lists[i] != batch->lists[start])
		{
			WinnowRows	mine = slice(state, &batch->rows, start, i - start);

			write_list(state, &mine);
			start = i;
		}
}

/* Rows that are not in memory all at once */
typedef struct Pieces
{
	int			count;
	int			first;			/* number of the first one's file */
	WinnowSpool *spools[WINNOW_MAX_PARTS];
} Pieces;

static int
piece_number(const WinnowFiles *files, const Pieces *pieces, int p)
{
	return (pieces->first + p) * files->nwriters + files->writer;
}

static void
open_pieces(WriteState *state, Pieces *pieces, int count)
{
	const WinnowFiles *files = &state->team->files;

	pieces->count = count;
	pieces->first = state->npieces;
	state->npieces += count;
	for (int p = 0; p < count; p++)
		pieces->spools[p] = winnow_spool_create(files, "piece",
												piece_number(files, pieces, p),
												state->image_bytes, state->team->index->dims);
}

/* Close the pieces; the number of rows of the largest */
static int64
close_pieces(Pieces *pieces)
{
	int64		largest = 0;

	for (int p = 0; p < pieces->count; p++)
	{
		largest = Max(largest, winnow_spool_count(pieces->spools[p]));
		winnow_spool_close(pieces->spools[p]);
	}
	return largest;
}

static void
delete_pieces(WriteState *state, const Pieces *pieces)
{
	const WinnowFiles *files = &state->team->files;

	for (int p = 0; p < pieces->count; p++)
		winnow_file_delete(files, "piece", piece_number(files, pieces, p));
}

/* Cut a spool into ranges of its lists */
static void
cut_by_list(WriteState *state, WinnowSpool *spool, int first, int nlists, Pieces *pieces)
{
	WinnowSpoolRow *row = winnow_spool_row_alloc(state->image_bytes, state->team->index->dims);

	while (winnow_spool_next(spool, row))
	{
		CHECK_FOR_INTERRUPTS();
		winnow_spool_add(pieces->spools[(row->list - first) * pieces->count / nlists], row);
	}
	close_pieces(pieces);
	winnow_spool_row_free(row);
}

/*
 * Cut one list into pieces: by centroids of its own, or (centroids NULL) by
 * chance, so that they are about equal.  Returns the size of the largest.
 */
static int64
cut_list(WriteState *state, WinnowSpool *spool, const float *centroids, int ncentroids,
		 int salt, Pieces *pieces)
{
	int			dims = state->team->index->dims;
	WinnowSpoolRow *row = winnow_spool_row_alloc(state->image_bytes, dims);
	float	   *scratch = palloc(sizeof(float) * pieces->count);

	winnow_spool_rewind(spool);
	while (winnow_spool_next(spool, row))
	{
		int			piece;
		float		distance;

		CHECK_FOR_INTERRUPTS();
		if (centroids != NULL)
			winnow_nearest(row->vector, centroids, ncentroids, dims, &piece, &distance, scratch);
		else
			piece = (int) (winnow_key_draw(row->key, salt) * pieces->count);
		winnow_spool_add(pieces->spools[piece], row);
	}
	pfree(scratch);
	winnow_spool_row_free(row);
	return close_pieces(pieces);
}

/* Cut a list that is too large for memory into pieces of rows near one another */
static void
cut_large_list(WriteState *state, WinnowSpool *spool, int depth, Pieces *pieces)
{
	int			dims = state->team->index->dims;
	int64		count = winnow_spool_count(spool);
	int			npieces = pieces->count;
	WinnowBatch *batch = winnow_spool_load(spool, state->most / 2, WINNOW_SALT_LARGE);
	int			nrows = batch->rows.count;
	int			ncentroids = Min(npieces, nrows);
	float	   *centroids = palloc_extended(sizeof(float) * dims * npieces, MCXT_ALLOC_HUGE);
	int32	   *ignored = palloc_extended(sizeof(int32) * nrows, MCXT_ALLOC_HUGE);
	void	   *scratch = palloc_extended(winnow_kmeans_scratch_bytes(nrows, dims, ncentroids),
										  MCXT_ALLOC_HUGE);

	winnow_kmeans(batch->rows.vectors, nrows, dims, ncentroids, 8, nrows, centroids, ignored,
				  scratch, winnow_check_interrupts, NULL);
	pfree(scratch);
	pfree(ignored);
	winnow_batch_free(batch);
	if (cut_list(state, spool, centroids, ncentroids, 0, pieces) > GIANT_PIECE * count)
	{
		delete_pieces(state, pieces);
		open_pieces(state, pieces, npieces);
		cut_list(state, spool, NULL, 0, WINNOW_SALT_PIECE + depth, pieces);
	}
	pfree(centroids);
}

/*
 * Make the nodes of the lists first, ..., first + nlists - 1, whose rows are in
 * a file, which is used up.  depth counts how often rows were cut up to now.
 */
static void
write_file(WriteState *state, const char *what, int number, int first, int nlists, int depth)
{
	const WinnowFiles *files = &state->team->files;
	WinnowSpool *spool = winnow_spool_open(files, what, number, state->image_bytes,
										   state->team->index->dims);
	int64		count = winnow_spool_count(spool);

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (count <= state->most)
	{
		WinnowBatch *batch = winnow_spool_load(spool, count, 0);

		winnow_spool_close(spool);
		winnow_file_delete(files, what, number);
		write_lists(state, batch);
		winnow_batch_free(batch);
	}
	else
	{
		Pieces	   *pieces = palloc(sizeof(Pieces));
		int			npieces = (int) Min(WINNOW_MAX_PARTS, ceil(1.5 * count / state->most));
		bool		whole = nlists > 1;

		open_pieces(state, pieces, whole ? Min(npieces, nlists) : npieces);
		if (whole)
			cut_by_list(state, spool, first, nlists, pieces);
		else
			cut_large_list(state, spool, depth, pieces);
		winnow_spool_close(spool);
		winnow_file_delete(files, what, number);
		for (int p = 0; p < pieces->count; p++)
		{
			/* list l goes to piece (l - first) * count / nlists */
			int			low = (p * nlists + pieces->count - 1) / pieces->count;
			int			high = ((p + 1) * nlists + pieces->count - 1) / pieces->count;

			write_file(state, "piece", piece_number(files, pieces, p),
					   whole ? first + low : first, whole ? high - low : 1, depth + 1);
		}
		pfree(pieces);
	}
}

/* A phase: the lists of every part to nodes */
void
winnow_cluster_write(WinnowTeam *team)
{
	WriteState	state = {0};
	WinnowCentroids *centroids = winnow_centroids_read(team);
	int			first[WINNOW_MAX_PARTS + 1];
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow build part",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	share_lists(centroids, team->shared->nparts, first);
	winnow_centroids_free(centroids);
	state.team = team;
	state.level = team->shared->level;
	state.image_bytes = winnow_layout(team->index, state.level)->image_bytes;
	state.most = most_rows(team);
	state.node = winnow_node_alloc(team->index);
	state.parent = palloc0(sizeof(WinnowSpoolRow));
	state.parent->image = state.node->image;
	state.parent->vector = state.node->centroid;
	if (state.level == 0)
		state.calibration = winnow_calibration_open(team);
	while ((state.part = winnow_team_take(team)) >= 0)
	{
		old = MemoryContextSwitchTo(context);
		state.nnodes = 0;
		state.nodes = winnow_spool_create(&team->files, "nodes",
										  state.level * WINNOW_MAX_PARTS + state.part,
										  team->index->inner.image_bytes, team->index->dims);
		if (state.calibration != NULL)
			winnow_calibration_begin_part(state.calibration, state.part);
		write_file(&state, "part", state.part, first[state.part],
				   first[state.part + 1] - first[state.part], 0);
		if (state.calibration != NULL)
			winnow_calibration_end_part(state.calibration);
		winnow_spool_close(state.nodes);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	if (state.calibration != NULL)
		winnow_calibration_close(state.calibration);
}

/*
 * Make the nodes of a level: level 0 from the table's rows, others from the
 * nbelow nodes of the level below.  Returns the number of nodes.
 */
int64
winnow_cluster_level(WinnowTeam *team, int level, int64 nbelow)
{
	WinnowTeamShared *shared = team->shared;
	int			image_bytes = winnow_layout(team->index, level)->image_bytes;
	double		nrows = nbelow;
	int64		nnodes = 0;
	int64		nsample;
	int			nlists;
	double		bytes;

	if (level == 0)
	{
		nsample = winnow_sample_table(team, &nrows, &nlists);
		winnow_calibration_seed(team);
	}
	else
		nsample = winnow_sample_nodes(team, level, nbelow, &nlists);
	winnow_centroids_train(team, nsample, nlists,
						   SMALL_LIST * winnow_layout(team->index, level)->size *
							   nsample / Max(nrows, 1));

	bytes = nrows * winnow_spool_row_bytes(image_bytes, team->index->dims);
	shared->level = level;
	shared->nsources = shared->nparts;
	shared->nparts = (int) Max(Min(ceil(bytes / PART_BYTES(shared->unit)), Min(nlists, WINNOW_MAX_PARTS)), 1);
	winnow_team_run(team, WINNOW_PHASE_DEAL, level == 0 ? shared->nparticipants : 1);
	if (level > 0)
		delete_nodes(team, level - 1, shared->nsources);
	winnow_team_run(team, WINNOW_PHASE_WRITE, shared->nparts);
	winnow_file_delete(&team->files, "centroids", 0);
	for (int part = 0; part < shared->nparts; part++)
	{
		WinnowSpool *nodes = winnow_nodes_open(team, level, part);

		nnodes += winnow_spool_count(nodes);
		winnow_spool_close(nodes);
	}
	return nnodes;
}
