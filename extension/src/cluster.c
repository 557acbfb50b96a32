/*
 * cluster.c
 *		Rows into nodes, by k-means.
 *
 * Rows that fit into memory are parted by k-means until every part is a node.
 * Others are dealt out to one temporary file per part first.
 */
#include "postgres.h"

#include "cluster.h"

#include <math.h>

#include "commands/progress.h"
#include "core/kmeans.h"
#include "core/random.h"
#include "miscadmin.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

/* How full k-means aims to make a node; what comes out larger is parted again */
#define FILL 0.7

/* Most parts made at once: the cost of k-means grows with their number */
#define MAX_PARTS 128

/* Passes of k-means */
#define ITERATIONS 8

/* Parts with less than this share of a node are dealt out to the others */
#define SMALL_PART 0.125

/* A part with more than this share of the rows is no progress */
#define GIANT_PART 0.8

/* Sampled rows per part, when there are more than fit into memory */
#define SAMPLE_PER_PART 256

typedef struct ClusterState
{
	Relation	rel;
	ForkNumber	fork;
	const WinnowIndex *index;
	int			level;
	WinnowSpool *parents;		/* receives a row for every node */
	WinnowNode *node;
	Size		budget;			/* of a part's spool */
	int64		ndone;
} ClusterState;

static void
cluster_tick(void *arg)
{
	CHECK_FOR_INTERRUPTS();
}

static WinnowRows
slice(const ClusterState *state, const WinnowRows *rows, int start, int count)
{
	int			image_bytes = winnow_layout(state->index, state->level)->image_bytes;
	WinnowRows	part;

	part.count = count;
	part.ids = rows->ids + start;
	part.images = rows->images + (Size) start * image_bytes;
	part.vectors = rows->vectors + (Size) start * state->index->dims;
	return part;
}

static void
write_node(ClusterState *state, const WinnowRows *rows)
{
	winnow_node_write(state->rel, state->fork, state->index, state->level, rows, false,
					  state->node);
	winnow_spool_add(state->parents, state->node->block, state->node->image,
					 state->node->centroid);
	state->ndone += rows->count;
	if (state->level == 0)
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, state->ndone);
}

static void
swap_bytes(void *a, void *b, void *spare, Size bytes)
{
	memcpy(spare, a, bytes);
	memcpy(a, b, bytes);
	memcpy(b, spare, bytes);
}

/*
 * Bring the rows into the order of their parts, in place.  part[] comes out
 * sorted; start[p] is where part p begins.
 */
static void
order_by_part(ClusterState *state, WinnowRows *rows, int32 *part, int nparts, int *start)
{
	int			image_bytes = winnow_layout(state->index, state->level)->image_bytes;
	Size		vector_bytes = sizeof(float) * state->index->dims;
	int		   *next = palloc(sizeof(int) * nparts);
	char	   *spare = palloc(vector_bytes + image_bytes + sizeof(uint64));
	int			at = 0;

	memset(start, 0, sizeof(int) * (nparts + 1));
	for (int i = 0; i < rows->count; i++)
		start[part[i] + 1]++;
	for (int p = 0; p < nparts; p++)
	{
		start[p + 1] += start[p];
		next[p] = start[p];
	}
	for (int p = 0; p < nparts; p++)
	{
		for (at = next[p]; at < start[p + 1];)
		{
			int			to = part[at];

			if (to == p)
			{
				at++;
				continue;
			}
			/* put this row where its part goes on; look at what was there */
			swap_bytes(&rows->ids[at], &rows->ids[next[to]], spare, sizeof(uint64));
			swap_bytes(rows->images + (Size) at * image_bytes,
					   rows->images + (Size) next[to] * image_bytes, spare, image_bytes);
			swap_bytes((char *) rows->vectors + at * vector_bytes,
					   (char *) rows->vectors + next[to] * vector_bytes, spare, vector_bytes);
			part[at] = part[next[to]];
			part[next[to]++] = to;
		}
	}
	pfree(next);
	pfree(spare);
}

/* Rows of parts that are too small go to the nearest part that is not */
static void
dissolve_small(ClusterState *state, const WinnowRows *rows, int32 *part, int nparts,
			   const float *centroids)
{
	int			dims = state->index->dims;
	int		   *size = palloc0(sizeof(int) * nparts);
	int		   *kept = palloc(sizeof(int) * nparts);
	float	   *kept_centroids = palloc(sizeof(float) * dims * nparts);
	float	   *scratch = palloc(sizeof(float) * nparts);
	int			nkept = 0;

	for (int i = 0; i < rows->count; i++)
		size[part[i]]++;
	for (int p = 0; p < nparts; p++)
	{
		if (size[p] < SMALL_PART * state->index->list_size)
			continue;
		memcpy(kept_centroids + (Size) nkept * dims, centroids + (Size) p * dims,
			   sizeof(float) * dims);
		kept[nkept++] = p;
	}
	for (int i = 0; i < rows->count && nkept > 0 && nkept < nparts; i++)
	{
		int			best;
		float		distance;

		if (size[part[i]] >= SMALL_PART * state->index->list_size)
			continue;
		winnow_nearest(rows->vectors + (Size) i * dims, kept_centroids, nkept, dims, &best,
					   &distance, scratch);
		part[i] = kept[best];
	}
	pfree(size);
	pfree(kept);
	pfree(kept_centroids);
	pfree(scratch);
}

/*
 * Part rows in memory in k-means fashion.  Returns the number of parts; part[]
 * says which each row belongs to.  Always makes progress: if one part would
 * have nearly everything, the rows are halved instead.
 */
static int
part_rows(ClusterState *state, const WinnowRows *rows, int32 *part)
{
	int			dims = state->index->dims;
	int			nparts = (int) ceil(rows->count / (state->index->list_size * FILL));
	float	   *centroids;
	int		   *size;
	int			largest = 0;

	if (nparts > MAX_PARTS)
		nparts = Min(MAX_PARTS, (int) ceil(sqrt(nparts)));
	nparts = Max(nparts, 2);
	centroids = palloc(sizeof(float) * dims * nparts);
	if (nparts > 2)
	{
		void	   *scratch = palloc_extended(winnow_kmeans_scratch_bytes(rows->count, dims, nparts),
											  MCXT_ALLOC_HUGE);

		winnow_kmeans(rows->vectors, rows->count, dims, nparts, ITERATIONS, rows->count,
					  centroids, part, scratch, cluster_tick, NULL);
		pfree(scratch);
		dissolve_small(state, rows, part, nparts, centroids);
		size = palloc0(sizeof(int) * nparts);
		for (int i = 0; i < rows->count; i++)
			largest = Max(largest, ++size[part[i]]);
		pfree(size);
	}
	if (nparts == 2 || largest > GIANT_PART * rows->count)
	{
		uint8	   *side = palloc(rows->count);
		void	   *scratch = palloc_extended(winnow_split_scratch_bytes(rows->count, dims),
											  MCXT_ALLOC_HUGE);

		winnow_split_two(rows->vectors, rows->count, dims, rows->count, centroids, side,
						 scratch, cluster_tick, NULL);
		for (int i = 0; i < rows->count; i++)
			part[i] = side[i];
		nparts = 2;
		pfree(side);
		pfree(scratch);
	}
	pfree(centroids);
	return nparts;
}

/* Part rows in memory until every part is a node */
static void
cluster_rows(ClusterState *state, WinnowRows *rows)
{
	int32	   *part;
	int		   *start;
	int			nparts;

	check_stack_depth();
	if (rows->count <= state->index->list_size)
	{
		if (rows->count > 0)
			write_node(state, rows);
		return;
	}
	part = palloc_extended(sizeof(int32) * rows->count, MCXT_ALLOC_HUGE);
	nparts = part_rows(state, rows, part);
	start = palloc(sizeof(int) * (nparts + 1));
	order_by_part(state, rows, part, nparts, start);
	pfree(part);
	for (int p = 0; p < nparts; p++)
	{
		WinnowRows	mine = slice(state, rows, start[p], start[p + 1] - start[p]);

		cluster_rows(state, &mine);
	}
	pfree(start);
}

/* Centroids for dealing out a spool, from a sample of its rows */
static float *
sample_centroids(ClusterState *state, WinnowSpool *spool, int nparts)
{
	int			dims = state->index->dims;
	int64		count = winnow_spool_count(spool);
	int64		left;
	int			wanted = (int) Min(count, (int64) SAMPLE_PER_PART * nparts);
	int			nsample = 0;
	float	   *sample;
	float	   *centroids = palloc(sizeof(float) * dims * nparts);
	int32	   *part;
	void	   *scratch;
	uint8	   *image = palloc(Max(winnow_layout(state->index, state->level)->image_bytes, 1));
	float	   *vector = palloc(sizeof(float) * dims);
	uint64_t	random = count;
	uint64		id;

	wanted = (int) Min(wanted, Max((int64) (state->budget / (sizeof(float) * dims)), nparts));
	sample = palloc_extended(sizeof(float) * dims * wanted, MCXT_ALLOC_HUGE);

	/* selection sampling: Knuth, vol. 2, algorithm S */
	winnow_spool_rewind(spool);
	for (left = count; winnow_spool_next(spool, &id, image, vector); left--)
	{
		if ((left % 1024) == 0)
			CHECK_FOR_INTERRUPTS();
		if (winnow_random_unit(&random) * left >= wanted - nsample)
			continue;
		memcpy(sample + (Size) nsample++ * dims, vector, sizeof(float) * dims);
	}
	Assert(nsample == wanted);

	part = palloc_extended(sizeof(int32) * nsample, MCXT_ALLOC_HUGE);
	scratch = palloc_extended(winnow_kmeans_scratch_bytes(nsample, dims, nparts), MCXT_ALLOC_HUGE);
	winnow_kmeans(sample, nsample, dims, nparts, ITERATIONS, count, centroids, part, scratch,
				  cluster_tick, NULL);
	pfree(part);
	pfree(scratch);
	pfree(sample);
	pfree(image);
	pfree(vector);
	return centroids;
}

/*
 * Deal a spool's rows out: to the nearest centroid, or (centroids NULL) cut in
 * their order.  Returns the number of rows of the largest part.
 */
static int64
deal_out(ClusterState *state, WinnowSpool *spool, const float *centroids,
		 WinnowSpool **parts, int nparts)
{
	int			dims = state->index->dims;
	int64		count = winnow_spool_count(spool);
	int64		row = 0;
	int64		largest = 0;
	uint8	   *image = palloc(Max(winnow_layout(state->index, state->level)->image_bytes, 1));
	float	   *vector = palloc(sizeof(float) * dims);
	float	   *scratch = palloc(sizeof(float) * nparts);
	uint64		id;

	/* next to no budget: what is dealt out goes to files */
	for (int p = 0; p < nparts; p++)
		parts[p] = winnow_spool_create_file(state->index, state->level, state->budget);
	winnow_spool_rewind(spool);
	while (winnow_spool_next(spool, &id, image, vector))
	{
		int			p = (int) (row * nparts / count);
		float		distance;

		if (row++ % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (centroids != NULL)
			winnow_nearest(vector, centroids, nparts, dims, &p, &distance, scratch);
		winnow_spool_add(parts[p], id, image, vector);
		largest = Max(largest, winnow_spool_count(parts[p]));
	}
	pfree(image);
	pfree(vector);
	pfree(scratch);
	return largest;
}

static void
cluster_spool(ClusterState *state, WinnowSpool *spool)
{
	WinnowSpool *parts[MAX_PARTS];
	float	   *centroids;
	double		bytes = (double) winnow_spool_count(spool) * winnow_spool_row_bytes(spool);
	int			nparts = (int) Min(MAX_PARTS, Max(2, ceil(1.5 * bytes / state->budget)));
	int64		largest;

	check_stack_depth();
	if (winnow_spool_fits(spool))
	{
		cluster_rows(state, winnow_spool_load(spool));
		return;
	}
	centroids = sample_centroids(state, spool, nparts);
	largest = deal_out(state, spool, centroids, parts, nparts);
	pfree(centroids);
	if (largest > GIANT_PART * winnow_spool_count(spool))
	{
		for (int p = 0; p < nparts; p++)
			winnow_spool_free(parts[p]);
		deal_out(state, spool, NULL, parts, nparts);
	}
	for (int p = 0; p < nparts; p++)
	{
		cluster_spool(state, parts[p]);
		winnow_spool_free(parts[p]);
	}
}

/*
 * Make the nodes of a level from the spool of its rows; every node adds a row
 * to the spool of its parents.
 */
void
winnow_cluster_spool(Relation rel, ForkNumber fork, const WinnowIndex *index, int level,
					 WinnowSpool *spool, WinnowSpool *parents)
{
	ClusterState state = {0};

	state.rel = rel;
	state.fork = fork;
	state.index = index;
	state.level = level;
	state.parents = parents;
	state.node = winnow_node_alloc(index);
	state.budget = winnow_spool_budget(spool);
	cluster_spool(&state, spool);
}
