/*
 * cluster.c
 *		Rows into nodes.
 *
 * Centroids are trained on a sample, every row goes to the list of its nearest
 * centroid, and lists become nodes.  If the rows do not fit into memory they are
 * dealt out to temporary files by list first.
 */
#include "postgres.h"

#include "cluster.h"

#include <math.h>

#include "centroids.h"
#include "commands/progress.h"
#include "core/kmeans.h"
#include "core/random.h"
#include "miscadmin.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

/* How full the centroids aim to make a node; what comes out larger is halved */
#define FILL 0.7

/* Nodes made from one set of centroids; more rows than that are parted first */
#define MAX_LISTS 4096

/* Sampled rows per centroid */
#define SAMPLE_PER_LIST 64

/* Lists with less than this share of a node are dealt out to the others */
#define SMALL_LIST 0.125

/* Temporary files at once */
#define MAX_FILES 128

/* A file with more than this share of the rows is no progress */
#define GIANT_FILE 0.8

/* While rows are in files, their list is kept above the bits of their id */
#define ID_BITS 48
#define ID_MASK ((UINT64CONST(1) << ID_BITS) - 1)

typedef struct ClusterState
{
	Relation	rel;
	ForkNumber	fork;
	const WinnowIndex *index;
	int			level;
	WinnowSpool *parents;		/* receives a row for every node */
	WinnowNode *node;
	WinnowCalibration *calibration;	/* or NULL */
	Size		budget;			/* of a part's spool */
	int64		ndone;
} ClusterState;

static void
tick(void *arg)
{
	CHECK_FOR_INTERRUPTS();
}

static WinnowRows
slice(const ClusterState *state, const WinnowRows *rows, int start, int count)
{
	int			image_bytes = winnow_layout(state->index, state->level)->image_bytes;
	WinnowRows	part;

	part.count = count;
	part.nknown = count;
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
	if (state->calibration != NULL)
		winnow_calibration_list(state->calibration, rows, state->node);
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

/*
 * Make nodes of the rows of one list: one, or as many as halving it takes.
 */
static void
write_list(ClusterState *state, WinnowRows *rows)
{
	int			dims = state->index->dims;
	float	   *centroids;
	uint8	   *side;
	int32	   *part;
	int			start[3];
	void	   *scratch;

	check_stack_depth();
	if (rows->count <= state->index->list_size)
	{
		if (rows->count > 0)
			write_node(state, rows);
		return;
	}
	centroids = palloc(sizeof(float) * 2 * dims);
	side = palloc_extended(rows->count, MCXT_ALLOC_HUGE);
	part = palloc_extended(sizeof(int32) * rows->count, MCXT_ALLOC_HUGE);
	scratch = palloc_extended(winnow_split_scratch_bytes(rows->count, dims), MCXT_ALLOC_HUGE);
	winnow_split_two(rows->vectors, rows->count, dims, rows->count, centroids, side, scratch,
					 tick, NULL);
	for (int i = 0; i < rows->count; i++)
		part[i] = side[i];
	pfree(scratch);
	pfree(side);
	pfree(centroids);
	order_by_part(state, rows, part, 2, start);
	pfree(part);
	for (int p = 0; p < 2; p++)
	{
		WinnowRows	half = slice(state, rows, start[p], start[p + 1] - start[p]);

		write_list(state, &half);
	}
}

/*
 * Rows of lists that are too small go to the nearest list that is not.  list[]
 * counts from "first".
 */
static void
dissolve_small(ClusterState *state, const WinnowRows *rows, int32 *list, int first,
			   int nlists, const WinnowCentroids *centroids)
{
	int			dims = state->index->dims;
	int		   *size = palloc0(sizeof(int) * nlists);
	int		   *kept = palloc(sizeof(int) * nlists);
	float	   *kept_centroids = palloc_extended(sizeof(float) * dims * nlists, MCXT_ALLOC_HUGE);
	float	   *scratch = palloc(sizeof(float) * nlists);
	int			nkept = 0;

	for (int i = 0; i < rows->count; i++)
		size[list[i]]++;
	for (int l = 0; l < nlists; l++)
	{
		if (size[l] < SMALL_LIST * state->index->list_size)
			continue;
		memcpy(kept_centroids + (Size) nkept * dims,
			   centroids->lists + (Size) (first + l) * dims, sizeof(float) * dims);
		kept[nkept++] = l;
	}
	for (int i = 0; i < rows->count && nkept > 0 && nkept < nlists; i++)
	{
		int			best;
		float		distance;

		if (i % 256 == 0)
			CHECK_FOR_INTERRUPTS();
		if (size[list[i]] >= SMALL_LIST * state->index->list_size)
			continue;
		winnow_nearest(rows->vectors + (Size) i * dims, kept_centroids, nkept, dims, &best,
					   &distance, scratch);
		list[i] = kept[best];
	}
	pfree(size);
	pfree(kept);
	pfree(kept_centroids);
	pfree(scratch);
}

/* Make the nodes of lists first, ..., first + nlists - 1, whose rows are in memory */
static void
write_lists(ClusterState *state, WinnowRows *rows, int32 *list, int first, int nlists,
			const WinnowCentroids *centroids)
{
	int		   *start = palloc(sizeof(int) * (nlists + 1));

	dissolve_small(state, rows, list, first, nlists, centroids);
	order_by_part(state, rows, list, nlists, start);
	for (int l = 0; l < nlists; l++)
	{
		WinnowRows	mine = slice(state, rows, start[l], start[l + 1] - start[l]);

		write_list(state, &mine);
	}
	pfree(start);
}

/* Train centroids on a sample of a spool's rows */
static WinnowCentroids *
train(ClusterState *state, WinnowSpool *spool, int nlists)
{
	int			dims = state->index->dims;
	int64		count = winnow_spool_count(spool);
	int64		most = Max((int64) (state->budget / 2 / (sizeof(float) * dims)), nlists);
	int			wanted = (int) Min(Min(count, most), (int64) SAMPLE_PER_LIST * nlists);
	int			nsample = 0;
	float	   *sample = palloc_extended(sizeof(float) * dims * wanted, MCXT_ALLOC_HUGE);
	uint8	   *image = palloc(Max(winnow_layout(state->index, state->level)->image_bytes, 1));
	float	   *vector = palloc(sizeof(float) * dims);
	uint64_t	random = count;
	uint64		id;
	WinnowCentroids *centroids;

	/* selection sampling: Knuth, vol. 2, algorithm S */
	winnow_spool_rewind(spool);
	for (int64 left = count; winnow_spool_next(spool, &id, image, vector); left--)
	{
		if (left % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (winnow_random_unit(&random) * left < wanted - nsample)
			memcpy(sample + (Size) nsample++ * dims, vector, sizeof(float) * dims);
	}
	if (state->calibration != NULL)
		winnow_calibration_seed(state->calibration, sample, nsample);
	centroids = winnow_centroids_train(sample, nsample, dims, Min(nlists, nsample));
	pfree(sample);
	pfree(image);
	pfree(vector);
	return centroids;
}

/*
 * The first list of every file, so that all get about as many rows, judging by
 * the sample; first[nfiles] is the end.
 */
static void
share_lists(const WinnowCentroids *centroids, int nfiles, int *first)
{
	int64		total = 0;
	int64		seen = 0;
	int			file = 0;

	for (int l = 0; l < centroids->count; l++)
		total += centroids->share[l] + 1;
	first[0] = 0;
	for (int l = 0; l < centroids->count; l++)
	{
		while (file + 1 < nfiles && seen * nfiles >= total * (file + 1))
			first[++file] = l;
		seen += centroids->share[l] + 1;
	}
	while (file < nfiles)
		first[++file] = centroids->count;
}

/*
 * Deal a spool's rows out to files: by list, or (centroids NULL) cut in their
 * order.  Returns the number of rows of the largest file.
 */
static int64
deal_out(ClusterState *state, WinnowSpool *spool, const WinnowCentroids *centroids,
		 const int *first, WinnowSpool **files, int nfiles)
{
	int64		count = winnow_spool_count(spool);
	int64		row = 0;
	int64		largest = 0;
	uint8	   *image = palloc(Max(winnow_layout(state->index, state->level)->image_bytes, 1));
	float	   *vector = palloc(sizeof(float) * state->index->dims);
	uint64		id;

	for (int f = 0; f < nfiles; f++)
		files[f] = winnow_spool_create_file(state->index, state->level, state->budget);
	winnow_spool_rewind(spool);
	while (winnow_spool_next(spool, &id, image, vector))
	{
		int			file = (int) (row * nfiles / count);

		if (row++ % 256 == 0)
			CHECK_FOR_INTERRUPTS();
		id &= ID_MASK;
		if (centroids != NULL)
		{
			int			list = winnow_centroids_assign(centroids, vector);

			for (file = 0; list >= first[file + 1];)
				file++;
			id |= (uint64) list << ID_BITS;
		}
		winnow_spool_add(files[file], id, image, vector);
		largest = Max(largest, winnow_spool_count(files[file]));
	}
	pfree(image);
	pfree(vector);
	return largest;
}

static void cluster_spool(ClusterState *state, WinnowSpool *spool);

/* All rows are in memory */
static void
cluster_in_memory(ClusterState *state, WinnowSpool *spool, const WinnowCentroids *centroids)
{
	WinnowRows *rows = winnow_spool_load(spool);
	int32	   *list = palloc_extended(sizeof(int32) * rows->count, MCXT_ALLOC_HUGE);

	for (int i = 0; i < rows->count; i++)
	{
		if (i % 256 == 0)
			CHECK_FOR_INTERRUPTS();
		rows->ids[i] &= ID_MASK;
		list[i] = winnow_centroids_assign(centroids,
										  rows->vectors + (Size) i * state->index->dims);
	}
	write_lists(state, rows, list, 0, centroids->count, centroids);
	pfree(list);
}

/* A file of the rows of some lists, which deal_out has marked */
static void
cluster_file(ClusterState *state, WinnowSpool *file, const WinnowCentroids *centroids,
			 int first, int nlists)
{
	WinnowRows *rows = winnow_spool_load(file);
	int32	   *list = palloc_extended(sizeof(int32) * Max(rows->count, 1), MCXT_ALLOC_HUGE);

	for (int i = 0; i < rows->count; i++)
	{
		list[i] = (int32) (rows->ids[i] >> ID_BITS) - first;
		rows->ids[i] &= ID_MASK;
	}
	write_lists(state, rows, list, first, nlists, centroids);
	pfree(list);
}

/*
 * The rows are in a file: deal them out to files that fit into memory.  What
 * does not fit even so, or has too many lists, is clustered on its own.
 */
static void
cluster_in_files(ClusterState *state, WinnowSpool *spool, const WinnowCentroids *centroids,
				 bool too_many)
{
	WinnowSpool *files[MAX_FILES];
	int			first[MAX_FILES + 1];
	int64		count = winnow_spool_count(spool);
	double		bytes = (double) count * winnow_spool_row_bytes(spool);
	int			nfiles = (int) Min(MAX_FILES, Max(2, ceil(1.5 * bytes / state->budget)));

	if (too_many)
		nfiles = Max(nfiles, (int) Min(MAX_FILES, 2 * count / (MAX_LISTS * FILL * state->index->list_size)));
	share_lists(centroids, nfiles, first);
	if (deal_out(state, spool, centroids, first, files, nfiles) > GIANT_FILE * count)
	{
		for (int f = 0; f < nfiles; f++)
			winnow_spool_free(files[f]);
		deal_out(state, spool, NULL, first, files, nfiles);
		too_many = true;
	}
	for (int f = 0; f < nfiles; f++)
	{
		if (too_many || !winnow_spool_fits(files[f]))
			cluster_spool(state, files[f]);
		else
			cluster_file(state, files[f], centroids, first[f], first[f + 1] - first[f]);
		winnow_spool_free(files[f]);
	}
}

static void
cluster_spool(ClusterState *state, WinnowSpool *spool)
{
	double		wanted = ceil(winnow_spool_count(spool) / (state->index->list_size * FILL));
	bool		too_many = wanted > MAX_LISTS;
	WinnowCentroids *centroids;

	check_stack_depth();
	if (winnow_spool_count(spool) == 0)
		return;
	centroids = train(state, spool, too_many ? MAX_FILES * 2 : (int) wanted);
	if (too_many || !winnow_spool_fits(spool))
		cluster_in_files(state, spool, centroids, too_many);
	else
		cluster_in_memory(state, spool, centroids);
	winnow_centroids_free(centroids);
}

/*
 * Make the nodes of a level from the spool of its rows; every node adds a row
 * to the spool of its parents.  The calibration, if there is one, is told of
 * every list.
 */
void
winnow_cluster_spool(Relation rel, ForkNumber fork, const WinnowIndex *index, int level,
					 WinnowSpool *spool, WinnowSpool *parents,
					 WinnowCalibration *calibration)
{
	ClusterState state = {0};

	state.rel = rel;
	state.fork = fork;
	state.index = index;
	state.level = level;
	state.parents = parents;
	state.calibration = calibration;
	state.node = winnow_node_alloc(index);
	state.budget = winnow_spool_budget(spool);
	cluster_spool(&state, spool);
}
