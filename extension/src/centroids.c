/*
 * centroids.c
 *		Centroids for many lists at once, and the list a row belongs to.
 *
 * k-means over thousands of centroids is too dear, and k-means of k-means
 * leaves neighbours on both sides of the borders of the upper level.  So: two
 * levels to start with, then Lloyd iterations in which a row may go to any
 * list of the groups nearest to it.
 *
 * The sample is in a file per group, which are the tasks of both phases.  Sums
 * over the sample are formed group by group, so that rounding does not depend
 * on who did what.
 */
#include "postgres.h"

#include "cluster.h"

#include <math.h>

#include "core/kmeans.h"
#include "core/mean.h"
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

static WinnowCentroids *
centroids_alloc(int dims, int count, int ngroups)
{
	WinnowCentroids *centroids = palloc0(sizeof(WinnowCentroids));
	int			flags = MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO;

	centroids->dims = dims;
	centroids->count = count;
	centroids->ngroups = ngroups;
	centroids->lists = palloc_extended(sizeof(float) * dims * count, flags);
	centroids->groups = palloc_extended(sizeof(float) * dims * ngroups, flags);
	centroids->start = palloc0(sizeof(int) * (ngroups + 1));
	centroids->share = palloc_extended(sizeof(int64) * count, flags);
	centroids->scratch = palloc_extended(sizeof(float) * Max(count, ngroups), flags);
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

/* Let all participants know the centroids as they are */
static void
centroids_publish(const WinnowTeam *team, const WinnowCentroids *centroids)
{
	Size		vector = sizeof(float) * centroids->dims;
	BufFile    *file = winnow_file_create(&team->files, "centroids", 0);

	winnow_file_write(file, &centroids->count, sizeof(int));
	winnow_file_write(file, &centroids->ngroups, sizeof(int));
	winnow_file_write(file, centroids->start, sizeof(int) * (centroids->ngroups + 1));
	winnow_file_write(file, centroids->share, sizeof(int64) * centroids->count);
	winnow_file_write(file, centroids->lists, vector * centroids->count);
	winnow_file_write(file, centroids->groups, vector * centroids->ngroups);
	BufFileClose(file);
}

WinnowCentroids *
winnow_centroids_read(const WinnowTeam *team)
{
	Size		vector = sizeof(float) * team->index->dims;
	BufFile    *file = winnow_file_open_only(&team->files, "centroids", 0);
	int			count;
	int			ngroups;
	WinnowCentroids *centroids;

	winnow_file_read(file, &count, sizeof(int));
	winnow_file_read(file, &ngroups, sizeof(int));
	centroids = centroids_alloc(team->index->dims, count, ngroups);
	winnow_file_read(file, centroids->start, sizeof(int) * (ngroups + 1));
	winnow_file_read(file, centroids->share, sizeof(int64) * count);
	winnow_file_read(file, centroids->lists, vector * count);
	winnow_file_read(file, centroids->groups, vector * ngroups);
	BufFileClose(file);
	return centroids;
}

/* Means of the centroids of each group, but outliers: a group is where most of its lists are */
static void
mean_groups(WinnowCentroids *centroids)
{
	int			dims = centroids->dims;
	double	   *squared = palloc_extended(sizeof(double) * (3 * centroids->count + dims),
										  MCXT_ALLOC_HUGE);

	for (int g = 0; g < centroids->ngroups; g++)
	{
		int			start = centroids->start[g];
		int			n = centroids->start[g + 1] - start;

		if (n > 0)
			winnow_mean(centroids->lists + (Size) start * dims, NULL, NULL, n, dims,
						centroids->groups + (Size) g * dims, squared, squared + n);
	}
	pfree(squared);
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

		if (centroids->start[g] == centroids->start[g + 1])
			continue;
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

/* k-means of sampled rows; scratch memory is its own */
static void
cluster_rows(const WinnowRows *rows, int dims, int count, float *centroids)
{
	void	   *scratch = palloc_extended(winnow_kmeans_scratch_bytes(rows->count, dims, count),
										  MCXT_ALLOC_HUGE);
	int32	   *ignored = palloc_extended(sizeof(int32) * rows->count, MCXT_ALLOC_HUGE);

	winnow_kmeans(rows->vectors, rows->count, dims, count, ITERATIONS, rows->count, centroids,
				  ignored, scratch, winnow_check_interrupts, NULL);
	pfree(scratch);
	pfree(ignored);
}

static WinnowSpool *
open_sample(const WinnowTeam *team, const char *what, int number)
{
	return winnow_spool_open(&team->files, what, number, 0, team->index->dims);
}

/* Centroids of the groups, from part of the sample */
static void
cluster_groups(WinnowTeam *team, WinnowCentroids *centroids)
{
	int			dims = centroids->dims;
	WinnowSpool *sample = winnow_sample_open(team);
	int64		most = Min(team->shared->unit / (sizeof(float) * dims),
						   (Size) WINNOW_SAMPLE_PER_LIST * centroids->ngroups);
	WinnowBatch *batch = winnow_spool_load(sample, Max(most, 4 * centroids->ngroups),
										   WINNOW_SALT_GROUPS);

	if (batch->rows.count < centroids->ngroups)
		centroids->ngroups = 1;
	if (centroids->ngroups > 1)
		cluster_rows(&batch->rows, dims, centroids->ngroups, centroids->groups);
	winnow_batch_free(batch);
	winnow_spool_close(sample);
}

/*
 * Deal the sample out to the groups, and say how many lists each gets:
 * start[] is filled in, the lists are for winnow_centroids_groups() to find.
 */
static void
deal_sample(WinnowTeam *team, WinnowCentroids *centroids, int64 nsample, int nlists)
{
	int			dims = centroids->dims;
	int			ngroups = centroids->ngroups;
	WinnowSpool *sample = winnow_sample_open(team);
	WinnowSpool **groups = palloc(sizeof(WinnowSpool *) * ngroups);
	WinnowSpoolRow *row = winnow_spool_row_alloc(0, dims);

	for (int g = 0; g < ngroups; g++)
		groups[g] = winnow_spool_create(&team->files, "group", g, 0, dims);
	for (int64 n = 0; winnow_spool_next(sample, row); n++)
	{
		int			best;
		float		distance;

		if (n % 256 == 0)
			CHECK_FOR_INTERRUPTS();
		winnow_nearest(row->vector, centroids->groups, ngroups, dims, &best, &distance,
					   centroids->scratch);
		winnow_spool_add(groups[best], row);
	}
	for (int g = 0; g < ngroups; g++)
	{
		int64		nrows = winnow_spool_count(groups[g]);
		int64		share = (int64) rint((double) nlists * nrows / nsample);

		share = Min(Max(share, 1), nrows);
		centroids->start[g + 1] = centroids->start[g] + (int) share;
		winnow_spool_close(groups[g]);
	}
	winnow_spool_close(sample);
	winnow_spool_row_free(row);
	pfree(groups);
	winnow_sample_delete(team);
}

/* A phase: the centroids of each group's lists, from the rows it has */
void
winnow_centroids_groups(WinnowTeam *team)
{
	WinnowCentroids *centroids = winnow_centroids_read(team);
	int			dims = centroids->dims;
	int			g;

	while ((g = winnow_team_take(team)) >= 0)
	{
		int			wanted = centroids->start[g + 1] - centroids->start[g];
		WinnowSpool *sample = open_sample(team, "group", g);
		BufFile    *file = winnow_file_create(&team->files, "lists", g);

		if (wanted > 0)
		{
			int64		most = Max((int64) (team->shared->unit / (sizeof(float) * dims)),
								   2 * wanted);
			WinnowBatch *batch = winnow_spool_load(sample, most, WINNOW_SALT_LISTS);
			int			count = Min(wanted, batch->rows.count);
			float	   *lists = palloc_extended(sizeof(float) * dims * count, MCXT_ALLOC_HUGE);

			cluster_rows(&batch->rows, dims, count, lists);
			winnow_file_write(file, &count, sizeof(int));
			winnow_file_write(file, lists, sizeof(float) * dims * count);
			pfree(lists);
			winnow_batch_free(batch);
		}
		BufFileClose(file);
		winnow_spool_close(sample);
	}
	winnow_centroids_free(centroids);
}

/* Take the lists that winnow_centroids_groups() has found */
static void
collect_lists(WinnowTeam *team, WinnowCentroids *centroids)
{
	int			dims = centroids->dims;
	int			count = 0;

	for (int g = 0; g < centroids->ngroups; g++)
	{
		int			n = centroids->start[g + 1] - centroids->start[g];

		/* never more than wanted, so later groups' starts are not overtaken */
		centroids->start[g] = count;
		if (n > 0)
		{
			BufFile    *file = winnow_file_open_only(&team->files, "lists", g);

			winnow_file_read(file, &n, sizeof(int));
			winnow_file_read(file, centroids->lists + (Size) count * dims,
							 sizeof(float) * dims * n);
			BufFileClose(file);
		}
		winnow_file_delete(&team->files, "lists", g);
		count += n;
	}
	centroids->start[centroids->ngroups] = count;
	centroids->count = count;
	mean_groups(centroids);
}

/* What some sampled rows of one group add to a list; the sum follows in the file */
typedef struct ListSum
{
	int			list;
	int64		count;
} ListSum;

/* Write down and forget the sums of the lists that rows went to */
static void
flush_sums(BufFile *file, const WinnowCentroids *centroids, double **sums, int64 *counts)
{
	for (int l = 0; l < centroids->count; l++)
	{
		ListSum		sum = {l, counts[l]};

		if (sums[l] == NULL)
			continue;
		winnow_file_write(file, &sum, sizeof(sum));
		winnow_file_write(file, sums[l], sizeof(double) * centroids->dims);
		pfree(sums[l]);
		sums[l] = NULL;
		counts[l] = 0;
	}
}

/* Assign one group's sampled rows; write down count and sum of each list they go to */
static void
sum_group(WinnowTeam *team, const WinnowCentroids *centroids, int g, WinnowSpoolRow *row)
{
	int			dims = centroids->dims;
	double	  **sums = palloc0(sizeof(double *) * centroids->count);
	int64	   *counts = palloc0(sizeof(int64) * centroids->count);
	WinnowSpool *sample = open_sample(team, "group", g);
	BufFile    *file = winnow_file_create(&team->files, "sums", g);
	Size		bytes = 0;

	for (int64 n = 0; winnow_spool_next(sample, row); n++)
	{
		int			list = winnow_centroids_assign(centroids, row->vector);

		Assert(list < centroids->count);
		if (n % 256 == 0)
			CHECK_FOR_INTERRUPTS();
		if (sums[list] == NULL)
		{
			/* where to cut does not depend on who does it: the unit is the same for all */
			if (bytes > team->shared->unit)
			{
				flush_sums(file, centroids, sums, counts);
				bytes = 0;
			}
			sums[list] = palloc0(sizeof(double) * dims);
			bytes += sizeof(double) * dims;
		}
		for (int d = 0; d < dims; d++)
			sums[list][d] += row->vector[d];
		counts[list]++;
	}
	flush_sums(file, centroids, sums, counts);
	BufFileClose(file);
	winnow_spool_close(sample);
	pfree(sums);
	pfree(counts);
}

/* A phase: one Lloyd iteration across the groups */
void
winnow_centroids_refine(WinnowTeam *team)
{
	WinnowCentroids *centroids = winnow_centroids_read(team);
	WinnowSpoolRow *row = winnow_spool_row_alloc(0, centroids->dims);
	int			g;

	while ((g = winnow_team_take(team)) >= 0)
		sum_group(team, centroids, g, row);
	winnow_spool_row_free(row);
	winnow_centroids_free(centroids);
}

/* Move the lists to the means of their rows; an empty one stays where it is */
static void
collect_sums(WinnowTeam *team, WinnowCentroids *centroids)
{
	int			dims = centroids->dims;
	double	   *total = palloc_extended(sizeof(double) * dims * centroids->count,
										MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	double	   *part = palloc(sizeof(double) * dims);

	memset(centroids->share, 0, sizeof(int64) * centroids->count);
	for (int g = 0; g < centroids->ngroups; g++)
	{
		BufFile    *file = winnow_file_open_only(&team->files, "sums", g);
		ListSum		sum;

		CHECK_FOR_INTERRUPTS();
		while (BufFileRead(file, &sum, sizeof(sum)) == sizeof(sum))
		{
			double	   *to = total + (Size) sum.list * dims;

			winnow_file_read(file, part, sizeof(double) * dims);
			for (int d = 0; d < dims; d++)
				to[d] += part[d];
			centroids->share[sum.list] += sum.count;
		}
		BufFileClose(file);
		winnow_file_delete(&team->files, "sums", g);
	}
	for (int l = 0; l < centroids->count; l++)
		for (int d = 0; d < dims && centroids->share[l] > 0; d++)
			centroids->lists[(Size) l * dims + d] =
				(float) (total[(Size) l * dims + d] / centroids->share[l]);
	mean_groups(centroids);
	pfree(total);
	pfree(part);
}

/*
 * Drop the lists that have fewer sampled rows than "least": theirs will go to
 * the lists next to them.  The largest stays.
 */
static void
drop_small(WinnowCentroids *centroids, double least)
{
	int			dims = centroids->dims;
	int			largest = 0;
	int			count = 0;
	int			from = 0;

	for (int l = 1; l < centroids->count; l++)
		if (centroids->share[l] > centroids->share[largest])
			largest = l;
	for (int g = 0; g < centroids->ngroups; g++)
	{
		int			end = centroids->start[g + 1];

		centroids->start[g] = count;
		for (int l = from; l < end; l++)
		{
			if (centroids->share[l] < least && l != largest)
				continue;
			memmove(centroids->lists + (Size) count * dims, centroids->lists + (Size) l * dims,
					sizeof(float) * dims);
			centroids->share[count++] = centroids->share[l];
		}
		from = end;
	}
	centroids->start[centroids->ngroups] = count;
	centroids->count = count;
	mean_groups(centroids);
}

/*
 * Centroids for about the given number of lists, from the sample that is in a
 * file, which is used up.  Lists that have fewer than "least" of its rows are
 * left out.  All participants can read the result.
 */
void
winnow_centroids_train(WinnowTeam *team, int64 nsample, int nlists, double least)
{
	int			ngroups = nlists <= FLAT_LISTS ? 1 : (int) ceil(sqrt(nlists));
	WinnowCentroids *centroids;

	/* rounding may add a list per group */
	centroids = centroids_alloc(team->index->dims, nlists + ngroups, ngroups);
	if (nsample == 0)
	{
		/* nothing is known: one list, which is taken apart when it has rows */
		centroids->ngroups = 1;
		centroids->count = 1;
		centroids->start[1] = 1;
		winnow_sample_delete(team);
	}
	else
	{
		cluster_groups(team, centroids);
		deal_sample(team, centroids, nsample, nlists);
		centroids_publish(team, centroids);
		winnow_team_run(team, WINNOW_PHASE_GROUPS, centroids->ngroups);
		collect_lists(team, centroids);
		for (int i = 0; i < REFINEMENTS; i++)
		{
			centroids_publish(team, centroids);
			winnow_team_run(team, WINNOW_PHASE_REFINE, centroids->ngroups);
			collect_sums(team, centroids);
		}
		for (int g = 0; g < centroids->ngroups; g++)
			winnow_file_delete(&team->files, "group", g);
		drop_small(centroids, least);
	}
	centroids_publish(team, centroids);
	winnow_centroids_free(centroids);
}
