/*
 * centroids.c
 *		Centroids for many lists at once, and the list a row belongs to.
 *
 * k-means over thousands of centroids is too dear, and k-means of k-means
 * leaves neighbours on both sides of the borders of the upper level.  So: two
 * levels to start with, then Lloyd iterations in which a row may go to any
 * list of the groups nearest to it.
 */
#include "postgres.h"

#include "centroids.h"

#include <math.h>

#include "core/kmeans.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Up to this many lists form one group */
#define FLAT_LISTS 128

/* Groups whose lists are compared with a row */
#define NEAREST_GROUPS 8

/* Passes of k-means within a level, and over the lists of all groups */
#define ITERATIONS 8
#define REFINEMENTS 4

static void
tick(void *arg)
{
	CHECK_FOR_INTERRUPTS();
}

static float *
allocate_vectors(int64 count, int dims)
{
	return palloc_extended(sizeof(float) * dims * count, MCXT_ALLOC_HUGE);
}

/* Means of the centroids of each group */
static void
mean_groups(WinnowCentroids *centroids)
{
	int			dims = centroids->dims;

	for (int g = 0; g < centroids->ngroups; g++)
	{
		float	   *mean = centroids->groups + (Size) g * dims;
		int			n = centroids->start[g + 1] - centroids->start[g];

		for (int d = 0; d < dims; d++)
		{
			double		sum = 0;

			for (int l = centroids->start[g]; l < centroids->start[g + 1]; l++)
				sum += centroids->lists[(Size) l * dims + d];
			mean[d] = (float) (sum / n);
		}
	}
}

/* The list nearest to a row, among those of the groups nearest to it */
int
winnow_centroids_assign(const WinnowCentroids *centroids, const float *row)
{
	int			dims = centroids->dims;
	int			near[NEAREST_GROUPS];
	float		near_distance[NEAREST_GROUPS];
	int			nnear = 0;
	int			best_list = 0;
	float		best_distance = INFINITY;

	winnow_kernels->l2_squared_many(row, centroids->groups, dims, centroids->ngroups, dims,
									centroids->scratch);
	for (int g = 0; g < centroids->ngroups; g++)
	{
		float		distance = centroids->scratch[g];
		int			i;

		if (nnear == NEAREST_GROUPS && !(distance < near_distance[nnear - 1]))
			continue;
		if (nnear < NEAREST_GROUPS)
			nnear++;
		for (i = nnear - 1; i > 0 && near_distance[i - 1] > distance; i--)
		{
			near[i] = near[i - 1];
			near_distance[i] = near_distance[i - 1];
		}
		near[i] = g;
		near_distance[i] = distance;
	}
	for (int i = 0; i < nnear; i++)
	{
		int			start = centroids->start[near[i]];
		int			best;
		float		distance;

		winnow_nearest(row, centroids->lists + (Size) start * dims,
					   centroids->start[near[i] + 1] - start, dims, &best, &distance,
					   centroids->scratch);
		if (distance < best_distance)
		{
			best_distance = distance;
			best_list = start + best;
		}
	}
	return best_list;
}

/* k-means of part of the sample; scratch memory is its own */
static void
cluster_sample(const float *rows, int nrows, int dims, int count, float *centroids,
			   int32 *assign)
{
	void	   *scratch = palloc_extended(winnow_kmeans_scratch_bytes(nrows, dims, count),
										  MCXT_ALLOC_HUGE);

	winnow_kmeans(rows, nrows, dims, count, ITERATIONS, nrows, centroids, assign, scratch,
				  tick, NULL);
	pfree(scratch);
}

/* Two levels: groups, then each group's lists from the rows it has */
static void
cluster_groups(WinnowCentroids *centroids, const float *sample, int nsample)
{
	int			dims = centroids->dims;
	int			wanted = centroids->count;
	int32	   *group = palloc_extended(sizeof(int32) * nsample, MCXT_ALLOC_HUGE);
	int32	   *ignored = palloc_extended(sizeof(int32) * nsample, MCXT_ALLOC_HUGE);
	float	   *rows = NULL;

	cluster_sample(sample, nsample, dims, centroids->ngroups, centroids->groups, group);
	centroids->count = 0;
	for (int g = 0; g < centroids->ngroups; g++)
	{
		int			nrows = 0;
		int			nlists;

		for (int i = 0; i < nsample; i++)
			nrows += group[i] == g;
		nlists = (int) rint((double) wanted * nrows / nsample);
		nlists = Max(1, Min(nlists, nrows));
		centroids->start[g] = centroids->count;
		if (nrows == 0)
			memcpy(centroids->lists + (Size) centroids->count * dims,
				   centroids->groups + (Size) g * dims, sizeof(float) * dims);
		else
		{
			rows = allocate_vectors(nrows, dims);
			nrows = 0;
			for (int i = 0; i < nsample; i++)
				if (group[i] == g)
					memcpy(rows + (Size) nrows++ * dims, sample + (Size) i * dims,
						   sizeof(float) * dims);
			cluster_sample(rows, nrows, dims, nlists,
						   centroids->lists + (Size) centroids->count * dims, ignored);
			pfree(rows);
		}
		centroids->count += nlists;
	}
	centroids->start[centroids->ngroups] = centroids->count;
	pfree(group);
	pfree(ignored);
}

/* One Lloyd iteration across the groups; an empty list stays where it is */
static void
refine(WinnowCentroids *centroids, const float *sample, int nsample)
{
	int			dims = centroids->dims;
	double	   *sum = palloc_extended(sizeof(double) * dims * centroids->count,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	memset(centroids->share, 0, sizeof(int64) * centroids->count);
	mean_groups(centroids);
	for (int i = 0; i < nsample; i++)
	{
		const float *row = sample + (Size) i * dims;
		int			list = winnow_centroids_assign(centroids, row);
		double	   *to = sum + (Size) list * dims;

		if (i % 256 == 0)
			CHECK_FOR_INTERRUPTS();
		for (int d = 0; d < dims; d++)
			to[d] += row[d];
		centroids->share[list]++;
	}
	for (int l = 0; l < centroids->count; l++)
		for (int d = 0; d < dims && centroids->share[l] > 0; d++)
			centroids->lists[(Size) l * dims + d] =
				(float) (sum[(Size) l * dims + d] / centroids->share[l]);
	mean_groups(centroids);
	pfree(sum);
}

/*
 * Centroids for about the given number of lists, from a sample of at least as
 * many rows.
 */
WinnowCentroids *
winnow_centroids_train(const float *sample, int nsample, int dims, int count)
{
	WinnowCentroids *centroids = palloc0(sizeof(WinnowCentroids));

	Assert(count >= 1 && nsample >= count);
	centroids->dims = dims;
	centroids->count = count;
	centroids->ngroups = count <= FLAT_LISTS ? 1 : (int) ceil(sqrt(count));

	/* rounding may add a list per group */
	centroids->lists = allocate_vectors(count + centroids->ngroups, dims);
	centroids->groups = allocate_vectors(centroids->ngroups, dims);
	centroids->start = palloc(sizeof(int) * (centroids->ngroups + 1));
	centroids->share = palloc0(sizeof(int64) * (count + centroids->ngroups));
	centroids->scratch = palloc(sizeof(float) * (count + centroids->ngroups));
	cluster_groups(centroids, sample, nsample);
	for (int i = 0; i < REFINEMENTS; i++)
		refine(centroids, sample, nsample);
	return centroids;
}

void
winnow_centroids_free(WinnowCentroids *centroids)
{
	pfree(centroids->lists);
	pfree(centroids->groups);
	pfree(centroids->start);
	pfree(centroids->share);
	pfree(centroids->scratch);
	pfree(centroids);
}
