/*
 * spool.h
 *		Rows on their way into the index: in memory, or in a temporary file.
 */
#ifndef WINNOW_SPOOL_H
#define WINNOW_SPOOL_H

#include "winnow.h"

typedef struct WinnowSpool WinnowSpool;

extern WinnowSpool *winnow_spool_create(const WinnowIndex *index, int level, Size budget);
extern WinnowSpool *winnow_spool_create_file(const WinnowIndex *index, int level,
											 Size budget);
extern void winnow_spool_add(WinnowSpool *spool, uint64 id, const uint8 *image,
							 const float *vector);
extern int64 winnow_spool_count(const WinnowSpool *spool);
extern Size winnow_spool_budget(const WinnowSpool *spool);
extern Size winnow_spool_row_bytes(const WinnowSpool *spool);
extern void winnow_spool_rewind(WinnowSpool *spool);
extern bool winnow_spool_next(WinnowSpool *spool, uint64 *id, uint8 *image, float *vector);
extern bool winnow_spool_fits(const WinnowSpool *spool);
extern WinnowRows *winnow_spool_load(WinnowSpool *spool);
extern void winnow_spool_free(WinnowSpool *spool);

#endif							/* WINNOW_SPOOL_H */
