/*
 * attribute.h
 *		SQL values as fixed-width columns of a winnow index.
 *
 * A winnow index has one vector column and any number of attribute columns.
 * The rows of a leaf group, and the children of an inner group, are stored as
 * a set of fixed-width byte columns.  This file says which columns those are
 * for a given index (the schema), turns the attribute values of a heap row
 * into them, and keeps the summaries that inner nodes hold of their children.
 *
 * A row image is the concatenation of one row's column values in list order:
 *
 *	leaf	null bits, ceil(nattrs / 8) columns of width 1: bit a % 8 of column
 *			a / 8 is set when attribute a is NULL; then per attribute
 *				ordered		code (w)
 *				hashed		hash (8), and prefix (8) where rows sort by bytes
 *				signature	Bloom signature of the elements (16)
 *	inner	per attribute one byte of WINNOW_SUMMARY_* flags, then
 *				ordered		minimum (w), maximum (w)
 *				hashed		Bloom filter of the hashes (16), and minimum (8),
 *							maximum (8) of the prefixes
 *				signature	OR of the signatures (16)
 *
 * Multi-byte values are in the machine's byte order and have no alignment.
 * The value columns of a NULL are zero.  How a type maps to codes, hashes and
 * signatures is part of the on-disk format.
 */
#ifndef WINNOW_ATTRIBUTE_H
#define WINNOW_ATTRIBUTE_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/rel.h"

/* Support function numbers of the operator classes */
#define WINNOW_METRIC_PROC		1	/* vector classes: which metric */
#define WINNOW_COLUMN_PROC		2	/* attribute classes: WinnowColumnType */
#define WINNOW_NPROCS			2

/* Strategy numbers of the attribute operator classes */
#define WINNOW_STRATEGY_LESS			1
#define WINNOW_STRATEGY_LESS_EQUAL		2
#define WINNOW_STRATEGY_EQUAL			3
#define WINNOW_STRATEGY_GREATER_EQUAL	4
#define WINNOW_STRATEGY_GREATER			5
#define WINNOW_STRATEGY_OVERLAP			6
#define WINNOW_STRATEGY_CONTAINS		7
#define WINNOW_STRATEGY_NOT_EQUAL		8

typedef enum WinnowColumnKind
{
	WINNOW_COLUMN_ORDERED,		/* a signed integer that sorts as the value */
	WINNOW_COLUMN_HASHED,		/* a 64-bit hash, perhaps with a prefix */
	WINNOW_COLUMN_SIGNATURE		/* a 128-bit Bloom signature of a set */
} WinnowColumnKind;

/*
 * Where a constant lies among the codes of an ordered column: values coded
 * below "low" are less than the constant, values coded above "high" are
 * greater.  When the placing is exact, values coded low..high are equal to
 * it; a constant that falls between two codes has high = low - 1.  Otherwise
 * values coded low..high may be anything.
 */
typedef struct WinnowPlace
{
	int64		low;
	int64		high;
	bool		exact;
} WinnowPlace;

/*
 * How the values of a type become columns; what support function 2 of an
 * attribute operator class returns (a pointer to a static constant).
 */
typedef struct WinnowColumnType
{
	const char *name;			/* for reports */
	WinnowColumnKind kind;
	uint8		width;			/* of an ordered code: 1, 2, 4 or 8; else 0 */
	uint8		shift;			/* ordered: of its cells (WinnowAttr), unless the build knows better */

	/*
	 * Equal codes mean equal values.  Keys on exact columns need no recheck.
	 */
	bool		exact;

	/*
	 * The codes do not sort as the type does: only equality is decided by
	 * code, and the keys of a range are turned into the set of values.
	 */
	bool		enumerated;

	/*
	 * Ordered: the code of a value.  Hashed: an order-preserving (for byte
	 * order) code of its prefix, or NULL when the type has none.
	 */
	int64		(*code) (Datum value);

	/*
	 * Ordered: place a constant of another type of the operator family among
	 * the codes; false when that type is not known here.  NULL when the type
	 * has no cross-type operators.
	 */
	bool		(*place) (Datum value, Oid valuetype, WinnowPlace *place);
} WinnowColumnType;

typedef struct WinnowAttr
{
	int			index_attno;	/* position among the index columns, from 0 */
	Oid			typid;			/* type of the stored values (base type) */
	Oid			opcintype;		/* input type of the operator class */
	Oid			collation;
	const WinnowColumnType *type;
	bool		prefix;			/* hashed: has a prefix column too */
	int			leaf_col;		/* first value column in the leaf list */
	int			summary_col;	/* flags column in the inner list */
	int			imprint;		/* first byte in an imprint; -1: it has nothing of it */
	uint8		shift;			/* ordered: last bits of a code that its cell ignores */

	/*
	 * Hashed and signature: the extended hash function of the values or of
	 * their elements.  It belongs to the type cache, which keeps it for good.
	 */
	FmgrInfo   *hash;
	bool		padded;			/* values are to be hashed without the blanks that char(n) ends with */

	/* signature: the element type */
	Oid			elemtype;
	int16		elemlen;
	bool		elembyval;
	char		elemalign;
} WinnowAttr;

/* Most columns a list can have, and most bytes an image can have */
#define WINNOW_NULL_COLUMNS(nattrs)	(((nattrs) + 7) / 8)
#define WINNOW_MAX_COLUMNS			(INDEX_MAX_KEYS * 4)
#define WINNOW_MAX_IMAGE			(INDEX_MAX_KEYS * 33)

#define WINNOW_BLOOM_BYTES	16

/* Flags byte of a summary */
#define WINNOW_SUMMARY_HAS_NULL		0x01
#define WINNOW_SUMMARY_HAS_VALUE	0x02

typedef struct WinnowSchema
{
	int			vector_attno;	/* position of the vector column, from 0 */
	int			nattrs;
	WinnowAttr	attrs[INDEX_MAX_KEYS];

	int			nleaf;			/* columns of a leaf row */
	uint16		leaf_width[WINNOW_MAX_COLUMNS]; /* bytes per row */
	uint16		leaf_offset[WINNOW_MAX_COLUMNS];	/* in the image */
	uint16		leaf_bytes;		/* of the image */

	int			ninner;			/* columns of a summary */
	uint16		inner_width[WINNOW_MAX_COLUMNS];
	uint16		inner_offset[WINNOW_MAX_COLUMNS];
	uint16		inner_bytes;

	int			imprint_words;	/* of one attribute, a power of 2 */
	int			imprint_bytes;	/* of all */
} WinnowSchema;

/*
 * The columns of one row group, on its page: column c holds nrows values of
 * the width the schema gives it, one after the other from base + offset[c].
 */
typedef struct WinnowColumns
{
	const char *base;
	const uint16 *offset;
	int			nrows;
} WinnowColumns;

extern WinnowSchema *winnow_schema_create(Relation index, MemoryContext context);

extern void winnow_encode_attrs(const WinnowSchema *schema, const Datum *values,
								const bool *isnull, uint8 *leaf_image);

extern void winnow_summary_reset(const WinnowSchema *schema, uint8 *summary);
extern bool winnow_summary_add_row(const WinnowSchema *schema, uint8 *summary,
								   const uint8 *leaf_image);
extern bool winnow_summary_add_summary(const WinnowSchema *schema, uint8 *summary,
									   const uint8 *other);
extern bool winnow_summary_covers_row(const WinnowSchema *schema, const uint8 *summary,
									  const uint8 *leaf_image);
extern bool winnow_summary_covers_summary(const WinnowSchema *schema, const uint8 *summary,
										  const uint8 *other);

/* imprint.c: the values below a child, more finely than its summary says */
extern void winnow_imprint_init(WinnowSchema *schema, int list_size, const uint8 *shifts);
extern void winnow_imprint_reset(const WinnowSchema *schema, uint8 *imprint, int level);
extern bool winnow_imprint_add_row(const WinnowSchema *schema, uint8 *imprint,
								   const uint8 *leaf_image);
extern bool winnow_imprint_add(const WinnowSchema *schema, uint8 *imprint, const uint8 *other);
extern bool winnow_imprint_covers(const WinnowSchema *schema, const uint8 *imprint,
								  const uint8 *other);
extern uint8 winnow_imprint_shift(const WinnowSchema *schema, const WinnowAttr *attr,
								  int64 *codes, int ncodes);
extern int	winnow_imprint_hash(const WinnowSchema *schema, uint64 hash, uint64 *mask);

/* The cell of a code of an ordered column, not yet modulo the number of cells */
#define winnow_imprint_cell(attr, code) ((uint64) ((code) >> (attr)->shift))

/* Shared with the filter, which encodes constants as rows were encoded */
extern uint64 winnow_attr_hash(const WinnowAttr *attr, Datum value);
extern void winnow_bloom_bits(uint64 hash, uint64 bits[2]);
extern int64 winnow_load_code(const void *from, int width);

/* validate.c */
extern bool winnow_validate(Oid opclassoid);

#endif							/* WINNOW_ATTRIBUTE_H */
