/*
 * cluster.h
 *		Rows into nodes: the levels of the tree.
 */
#ifndef WINNOW_CLUSTER_H
#define WINNOW_CLUSTER_H

#include "centroids.h"

/* Parts that the rows of a level are dealt out to, at most */
#define WINNOW_MAX_PARTS 128

/* cluster.c */
extern int	winnow_cluster_lists(const WinnowTeam *team, int level, double nrows);
extern int64 winnow_cluster_level(WinnowTeam *team, int level, int64 nbelow);
extern void winnow_cluster_deal(WinnowTeam *team);
extern void winnow_cluster_write(WinnowTeam *team);
extern WinnowSpool *winnow_nodes_open(const WinnowTeam *team, int level, int part);

/* sample.c */
extern void winnow_sample_stretches(WinnowTeam *team);
extern int64 winnow_sample_table(WinnowTeam *team, double *nrows, int *nlists);
extern WinnowSpool *winnow_sample_open(const WinnowTeam *team);
extern void winnow_sample_delete(const WinnowTeam *team);
extern int64 winnow_sample_nodes(WinnowTeam *team, int level, int64 nrows, int *nlists);

#endif							/* WINNOW_CLUSTER_H */
