/*
 * filter_private.h
 *		What a compiled filter is; for filter*.c, code_set.c and condition.c alone.
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

/* Intervals as they come; the array grows */
typedef struct CodeRangeList
{
	int			count;
	int			capacity;
	CodeRange  *items;
} CodeRangeList;

/*
 * Which codes may be in a set (inverted: in the gaps between its intervals): those
 * whose slot's bit is set, and exactly those if each code has a slot of its own.
 */
typedef struct CodeLookup
{
	uint64		low;
	uint64		factor;
	int			shift;
	uint64		last;			/* slot */
	bool		exact;
	bool		inverted;
	uint64	   *bits;
} CodeLookup;

static inline uint64
winnow_codes_slot(const CodeLookup *lookup, int64 code)
{
	uint64		slot = (((uint64) code - lookup->low) * lookup->factor) >> lookup->shift;

	return slot < lookup->last ? slot : lookup->last;
}

/* A set of codes: intervals in order that neither overlap nor touch */
typedef struct CodeSet
{
	int			count;
	CodeRange  *items;
	CodeLookup *lookup;			/* of a set of many intervals; may be NULL */
} CodeSet;

/* code_set.c */
extern void winnow_codes_add(CodeRangeList *list, int64 low, int64 high);
extern CodeSet *winnow_codes_set(CodeRangeList *list);
extern CodeSet *winnow_codes_intersect(CodeSet *a, CodeSet *b);
extern CodeSet *winnow_codes_complement(const CodeSet *set);
extern CodeLookup *winnow_codes_lookup(const CodeSet *set);

/* Passes a Bloom filter or signature that has all bits of one of the needs */
typedef struct BloomTest
{
	int			count;
	uint64		(*needs)[2];
} BloomTest;

/*
 * Passes an imprint of which one of some words has any of the bits asked for, or all;
 * or any cell of those that a range of codes has between the child's bounds
 */
typedef struct ImprintNeed
{
	uint16		word;			/* of the attribute's */
	bool		all;
	uint64		mask;
} ImprintNeed;

typedef struct ImprintTest
{
	const CodeRange *range;		/* NULL: words are asked for */
	int			count;
	ImprintNeed needs[FLEXIBLE_ARRAY_MEMBER];
} ImprintTest;

/* Sets of more intervals than this get a lookup, instead of one pass over the column for each interval */
#define MAX_PASSES	8

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
	/* hashed: rows with these are in doubt, see winnow_filter_doubtful; NULL if there are none */
	CodeSet *doubtful;
	/* of the summary's Bloom filter for those hashes; NULL if there is none */
	BloomTest  *hash_bloom;
	/* signature: one test for each key */
	int			nsignatures;
	BloomTest  *signatures;
	/* of imprints; NULL if there is none */
	ImprintTest *imprint;
} AttrTest;

/* An element of an IN list, with its code or hash */
typedef struct CodedElement
{
	int64		code;
	Datum		value;
} CodedElement;

/*
 * A condition of the executor's, as far as columns tell: rows that fail it
 * cannot make the condition true.  A NULL pointer lets every row pass.
 */
typedef enum ConditionKind
{
	CONDITION_NEVER,			/* no row passes */
	CONDITION_TEST,
	CONDITION_AND,
	CONDITION_OR
} ConditionKind;

typedef struct Condition
{
	ConditionKind kind;
	AttrTest	test;			/* TEST */
	List	   *parts;			/* AND, OR */
} Condition;

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
	int			nrechecks;
	RecheckKey *rechecks;
	Condition  *condition;		/* that the executor tests; NULL: any row may pass */
	List	   *conditions;		/* the expressions that it is made of */
};

/* filter.c */
extern int64 winnow_filter_code(const WinnowAttr *attr, Datum value);
extern CodedElement *winnow_key_elements(ScanKey key, int *count);
extern bool winnow_test_compile(AttrTest *test, ScanKey key, const CodedElement *elements,
								int count, bool *decided);
extern bool winnow_test_exclude(AttrTest *test, ScanKey key, const CodedElement *elements,
								int count);
extern void winnow_test_finish(const WinnowSchema *schema, AttrTest *test);

/* filter_imprint.c */
extern void winnow_test_imprint(const WinnowSchema *schema, AttrTest *test);

#endif							/* WINNOW_FILTER_PRIVATE_H */
