/*
 * centroids.h
 *		Centroids for many lists at once, and the list a row belongs to.
 */
#ifndef WINNOW_CENTROIDS_H
#define WINNOW_CENTROIDS_H

#include "team.h"

typedef struct WinnowCentroids
{
	int			dims;
	int			count;			/* lists */
	int			ngroups;
	float	   *lists;			/* their centroids, group by group */
	float	   *groups;			/* means of the groups' centroids */
	int		   *start;			/* first list of each group, and the end */
	int64	   *share;			/* sampled rows of each list */
	float	   *scratch;
} WinnowCentroids;

/* Sampled rows per centroid that training asks for */
#define WINNOW_SAMPLE_PER_LIST 64

extern void winnow_centroids_train(WinnowTeam *team, int64 nsample, int nlists,
								   double least);
extern void winnow_centroids_groups(WinnowTeam *team);
extern void winnow_centroids_refine(WinnowTeam *team);
extern WinnowCentroids *winnow_centroids_read(const WinnowTeam *team);
extern int	winnow_centroids_assign(const WinnowCentroids *centroids, const float *row);
extern void winnow_centroids_free(WinnowCentroids *centroids);

#endif							/* WINNOW_CENTROIDS_H */
