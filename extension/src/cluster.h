/*
 * cluster.h
 *		Rows into nodes, by k-means.
 */
#ifndef WINNOW_CLUSTER_H
#define WINNOW_CLUSTER_H

#include "recall.h"
#include "spool.h"

extern void winnow_cluster_spool(Relation rel, ForkNumber fork, const WinnowIndex *index,
								 int level, WinnowSpool *spool, WinnowSpool *parents,
								 WinnowCalibration *calibration);

#endif							/* WINNOW_CLUSTER_H */
