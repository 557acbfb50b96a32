/*
 * calibrate.h
 *		What share of the best rows may be missed, found out by searches that are played.
 */
#ifndef WINNOW_CALIBRATE_H
#define WINNOW_CALIBRATE_H

#include "cluster.h"
#include "recall.h"

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
extern void winnow_calibration_default(WinnowMeta *meta);
extern double winnow_tolerance(const float *tolerance, double target);

#endif							/* WINNOW_CALIBRATE_H */
