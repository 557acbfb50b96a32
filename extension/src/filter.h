/*
 * filter.h
 *		The keys of a scan, compiled to tests of columns.
 *
 * A filter is compiled once per (re)scan.  It is then evaluated over the
 * columns of leaf groups (which rows may match), over those of inner groups
 * (which children may have a row that matches), and, where a column does not
 * decide a key, over the values of a heap row (does it match).
 */
#ifndef WINNOW_FILTER_H
#define WINNOW_FILTER_H

#include "attribute.h"

#include "access/skey.h"
#include "nodes/execnodes.h"

typedef struct WinnowFilter WinnowFilter;

/* Words of a row mask: bit r % 64 of word r / 64 stands for row r */
#define WINNOW_MASK_WORDS(nrows)	(((nrows) + 63) / 64)

extern WinnowFilter *winnow_filter_compile(const WinnowSchema *schema, ScanKey keys,
										   int nkeys, MemoryContext context);

/* No row at all can match: nothing needs to be read */
extern bool winnow_filter_never(const WinnowFilter *filter);

/* Columns of the index whose values winnow_filter_recheck has to see of the rows that pass winnow_filter_rows */
extern Bitmapset *winnow_filter_rechecked(const WinnowFilter *filter);

/*
 * Clear the bits of rows (children) that cannot match.  The mask comes in
 * with the rows of interest set.
 */
extern void winnow_filter_rows(const WinnowFilter *filter, const WinnowColumns *leaf,
							   uint64 *mask);
extern void winnow_filter_children(const WinnowFilter *filter, const WinnowColumns *inner,
								   uint64 *mask);

/*
 * Does the filter ask anything of imprints (imprint.c), and may a row below the
 * child in a slot of an inner group, whose imprint is given, match?  The last one
 * asks the processor for what that looks at first.
 */
extern bool winnow_filter_asks_imprints(const WinnowFilter *filter);
extern bool winnow_filter_imprint(const WinnowFilter *filter, const WinnowColumns *inner, int slot,
								  const uint8 *imprint);
extern void winnow_filter_imprint_ahead(const WinnowFilter *filter, const uint8 *imprint);

/* The column of leaf rows that winnow_filter_rows looks at first; -1: at none */
extern int	winnow_filter_first_column(const WinnowFilter *filter);

/*
 * Of the rows that pass, set the bits of those that match only if two values have
 * the same hash: under "column <> value" the ones with the value's.  That they
 * match is as good as impossible, but not quite.  Returns whether there are any.
 */
extern bool winnow_filter_doubtful(const WinnowFilter *filter, const WinnowColumns *leaf,
								   const uint64 *mask, uint64 *doubtful);

/*
 * Does the row match the keys that its columns could not decide?  values and
 * isnull are those of the index's columns, in index order.
 */
extern bool winnow_filter_recheck(const WinnowFilter *filter, const Datum *values,
								  const bool *isnull);

/*
 * condition.c: let the filter also leave out rows for which the conditions that
 * the planner left to the executor cannot be true.  It need not know whether
 * they are; the executor tests them.
 */
extern void winnow_filter_narrow(WinnowFilter *filter, Relation index, IndexScanState *node,
								 MemoryContext context);

/* The conditions that it does so for: a list of expressions */
extern List *winnow_filter_conditions(const WinnowFilter *filter);

#endif							/* WINNOW_FILTER_H */
