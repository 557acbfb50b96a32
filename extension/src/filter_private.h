/*
 * filter_private.h
 *		What a compiled filter is; for filter.c and filter_evaluate.c alone.
 */
#ifndef WINNOW_FILTER_PRIVATE_H
#define WINNOW_FILTER_PRIVATE_H

#include "filter.h"

/* The codes low..high, not empty */
typedef struct CodeRange
{
	int64		low;
	int64		high;
} CodeRange;

/* A set of codes: intervals in order that neither overlap nor touch */
typedef struct CodeSet
{
	int			count;
	CodeRange   *items;
} CodeSet;

/* Passes a Bloom filter or signature that has all bits of one of the needs */
typedef struct BloomTest
{
	int			count;
	uint64		(*needs)[2];
} BloomTest;

/* More needs than this say too little about a signature to be worth the test */
#define MAX_BLOOM_NEEDS		64

/*
 * What the keys on one attribute ask of its columns.  They ask either for
 * NULL or for a value; a value must pass every test there is.
 */
typedef struct AttrTest
{
	const WinnowAttr *attr;
	int			number;			/* of the attribute in the schema */
	bool		wants_null;
	bool		wants_value;

	/* ordered: of the codes; hashed: of the prefixes; NULL if any will do */
	CodeSet *codes;
	/* hashed: of the hashes, as signed integers; NULL if any will do */
	CodeSet *hashes;
	/* of the summary's Bloom filter for those hashes; NULL if there is none */
	BloomTest  *hash_bloom;
	/* signature: one test for each key */
	int			nsignatures;
	BloomTest  *signatures;
} AttrTest;

/* An element of an IN list, with its code or hash */
typedef struct CodedElement
{
	int64		code;
	Datum		value;
} CodedElement;

/* A key that columns do not decide */
typedef struct RecheckKey
{
	int			index_attno;	/* from 0 */
	bool		null_test;		/* IS [NOT] NULL: want_null says which */
	bool		want_null;
	FmgrInfo	function;
	Oid			collation;

	/*
	 * The right-hand sides, of which one must do: one, or those of a list.
	 * With an attribute set, they are in the order of their codes and only
	 * those with the row's own code can be equal to it.
	 */
	int			count;
	CodedElement *elements;
	const WinnowAttr *attr;
} RecheckKey;

struct WinnowFilter
{
	const WinnowSchema *schema;
	bool		never;
	int			ntests;
	AttrTest   *tests;
	WinnowFilterCount *counts;	/* one for each test */
	int			nrechecks;
	RecheckKey *rechecks;
};

extern int64 winnow_filter_code(const WinnowAttr *attr, Datum value);

#endif							/* WINNOW_FILTER_PRIVATE_H */
