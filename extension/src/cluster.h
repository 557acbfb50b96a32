/*
 * cluster.h
 *		Rows into nodes: the levels of the tree.
 */
#ifndef WINNOW_CLUSTER_H
#define WINNOW_CLUSTER_H

#include "centroids.h"
#include "recall.h"

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

/* calibrate.c */
typedef struct WinnowCalibration WinnowCalibration;

extern void winnow_calibration_seed(WinnowTeam *team);
extern WinnowCalibration *winnow_calibration_open(WinnowTeam *team);
extern void winnow_calibration_begin_part(WinnowCalibration *calibration, int part);
extern void winnow_calibration_list(WinnowCalibration *calibration, uint64 key,
									const WinnowRows *rows, const WinnowNode *node);
extern void winnow_calibration_end_part(WinnowCalibration *calibration);
extern void winnow_calibration_close(WinnowCalibration *calibration);
extern void winnow_calibration_play(WinnowTeam *team);
extern void winnow_calibration_finish(WinnowTeam *team, double nrows, WinnowMeta *meta);

#endif							/* WINNOW_CLUSTER_H */
