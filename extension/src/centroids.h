/*
 * centroids.h
 *		Centroids for many lists at once, and the list a row belongs to.
 */
#ifndef WINNOW_CENTROIDS_H
#define WINNOW_CENTROIDS_H

#include "winnow.h"

typedef struct WinnowCentroids
{
	int			dims;
	int			count;			/* lists */
	float	   *lists;			/* their centroids, group by group */
	int			ngroups;
	float	   *groups;			/* means of the groups' centroids */
	int		   *start;			/* first list of each group, and the end */
	int64	   *share;			/* sampled rows of each list */
	float	   *scratch;
} WinnowCentroids;

extern WinnowCentroids *winnow_centroids_train(const float *sample, int nsample, int dims,
											   int count);
extern int	winnow_centroids_assign(const WinnowCentroids *centroids, const float *row);
extern void winnow_centroids_free(WinnowCentroids *centroids);

#endif							/* WINNOW_CENTROIDS_H */
