/*
 * filter.c
 *		Compile the keys of a scan to tests of columns.
 *
 * A key on an ordered column becomes a set of codes: one interval for a
 * comparison, one per element for a list, as many as it takes for a range of
 * an enum.  The sets of several keys on one column are intersected, so that
 * each column is read once however many keys there are.  Equality on a hashed
 * column becomes a set of hashes in the same way, and keys on a signature
 * become the bits that the signature must have.
 *
 * The tests let every row pass that matches.  A key that they do not decide
 * by themselves is kept, to be rechecked with the operator's own function.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "filter_private.h"
#include "utils/array.h"
#include "utils/catcache.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* ----------
 * Constants
 * ----------
 */

/* The code of an ordered value, or the hash of a hashed one */
int64
winnow_filter_code(const WinnowAttr *attr, Datum value)
{
	if (attr->type->kind == WINNOW_COLUMN_HASHED)
		return (int64) winnow_attr_hash(attr, value);
	return attr->type->code(value);
}

/* Are constants of this type of the same type as the attribute's values? */
static bool
same_type(const WinnowAttr *attr, Oid valuetype)
{
	return !OidIsValid(valuetype) || valuetype == attr->opcintype;
}

/*
 * Place a constant among an attribute's codes (those of its prefixes when it
 * is hashed); false when that cannot be done.
 */
static bool
place_constant(const WinnowAttr *attr, Oid valuetype, Datum value, WinnowPlace *place)
{
	if (!same_type(attr, valuetype))
		return attr->type->place != NULL && attr->type->place(value, valuetype, place);

	place->low = place->high = attr->type->code(value);
	place->exact = attr->type->exact;
	return true;
}

/* Add the codes that "value strategy constant" may be true for */
static void
add_placed(CodeRangeList *list, const WinnowAttr *attr, StrategyNumber strategy,
		   WinnowPlace place)
{
	int			width = attr->type->width ? attr->type->width : sizeof(int64);
	int64		largest = PG_INT64_MAX >> (64 - 8 * width);
	int64		low = -largest - 1;
	int64		high = largest;

	switch (strategy)
	{
		case WINNOW_STRATEGY_LESS:
			if (place.exact && place.low <= low)
				return;
			high = Min(high, place.exact ? place.low - 1 : place.high);
			break;
		case WINNOW_STRATEGY_LESS_EQUAL:
			high = Min(high, place.high);
			break;
		case WINNOW_STRATEGY_EQUAL:
			low = Max(low, place.low);
			high = Min(high, place.high);
			break;
		case WINNOW_STRATEGY_GREATER_EQUAL:
			low = Max(low, place.low);
			break;
		case WINNOW_STRATEGY_GREATER:
			if (place.exact && place.high >= high)
				return;
			low = Max(low, place.exact ? place.high + 1 : place.low);
			break;
		case WINNOW_STRATEGY_NOT_EQUAL:
			if (!place.exact)
				break;
			if (place.low > low)
				winnow_codes_add(list, low, Min(high, place.low - 1));
			if (place.high < high)
				winnow_codes_add(list, Max(low, place.high + 1), high);
			return;
		default:
			elog(ERROR, "unexpected strategy %d", strategy);
	}
	winnow_codes_add(list, low, high);
}

/*
 * Add the codes of the values of an enum that satisfy an inequality.  A value's
 * code is its OID, which says nothing of its rank: ask the operator.  Adding a value
 * to an enum takes no lock on its tables, so that nothing else has told this backend
 * of it.
 */
static void
add_enum_values(CodeRangeList *list, const WinnowAttr *attr, ScanKey key, Datum value)
{
	CatCList   *members;

	AcceptInvalidationMessages();
	members = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(attr->typid));
	for (int i = 0; i < members->n_members; i++)
	{
		Form_pg_enum form = (Form_pg_enum) GETSTRUCT(&members->members[i]->tuple);
		Datum		member = ObjectIdGetDatum(form->oid);

		if (DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation, member, value)))
		{
			int64		code = attr->type->code(member);

			winnow_codes_add(list, code, code);
		}
	}
	ReleaseCatCacheList(members);
}

/* ----------
 * Keys
 * ----------
 */

/* The right-hand sides of a key that are not NULL, copied */
CodedElement *
winnow_key_elements(ScanKey key, int *count)
{
	CodedElement *elements;
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	int			nvalues;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	*count = 0;
	if (key->sk_flags & SK_ISNULL)
		return NULL;

	if (!(key->sk_flags & SK_SEARCHARRAY))
	{
		elements = palloc0_object(CodedElement);
		elements[(*count)++].value = key->sk_argument;
		return elements;
	}

	array = DatumGetArrayTypeP(key->sk_argument);
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign,
					  &values, &nulls, &nvalues);
	elements = palloc0_array(CodedElement, Max(nvalues, 1));
	for (int i = 0; i < nvalues; i++)
	{
		if (!nulls[i])
			elements[(*count)++].value = values[i];
	}
	return elements;
}

/* Ask the ordered codes (or prefixes) to satisfy a key; is it decided then? */
static bool
compile_codes(AttrTest *test, ScanKey key, const CodedElement *elements, int count)
{
	const WinnowAttr *attr = test->attr;
	CodeRangeList list = {0};
	bool		decided = true;

	for (int i = 0; i < count; i++)
	{
		WinnowPlace place;

		if (attr->type->enumerated && key->sk_strategy != WINNOW_STRATEGY_EQUAL &&
			key->sk_strategy != WINNOW_STRATEGY_NOT_EQUAL)
		{
			add_enum_values(&list, attr, key, elements[i].value);
			continue;
		}
		if (!place_constant(attr, key->sk_subtype, elements[i].value, &place))
			return false;
		add_placed(&list, attr, key->sk_strategy, place);
		decided &= place.exact;
	}
	test->codes = winnow_codes_intersect(test->codes, winnow_codes_set(&list));
	return decided;
}

/* The hashes of the values that a key is true for; NULL if they do not tell */
static CodeSet *
equal_hashes(const WinnowAttr *attr, ScanKey key, const CodedElement *elements, int count)
{
	CodeRangeList list = {0};

	if (attr->type->kind != WINNOW_COLUMN_HASHED || key->sk_strategy != WINNOW_STRATEGY_EQUAL ||
		!same_type(attr, key->sk_subtype))
		return NULL;

	for (int i = 0; i < count; i++)
	{
		int64		hash = winnow_filter_code(attr, elements[i].value);

		winnow_codes_add(&list, hash, hash);
	}
	return winnow_codes_set(&list);
}

/* Ask the hashes to be among those of a key's constants */
static void
compile_hashes(AttrTest *test, ScanKey key, const CodedElement *elements, int count)
{
	CodeSet    *set = equal_hashes(test->attr, key, elements, count);

	if (set != NULL)
		test->hashes = winnow_codes_intersect(test->hashes, set);
}

/*
 * Ask the signatures for the elements of a key's array.  Returns false when no
 * array can satisfy the key.
 *
 * The rules are those of array_contain_compare (PostgreSQL, arrayfuncs.c): a
 * NULL element equals nothing, every array contains the empty one, and none
 * overlaps it.
 */
static bool
compile_signature(AttrTest *test, ScanKey key)
{
	const WinnowAttr *attr = test->attr;
	bool		contains = key->sk_strategy == WINNOW_STRATEGY_CONTAINS;
	BloomTest  *bloom = &test->signatures[test->nsignatures];
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;
	int			nvalues = 0;

	array = DatumGetArrayTypeP(key->sk_argument);
	if (ARR_ELEMTYPE(array) != attr->elemtype)
		return true;
	deconstruct_array(array, attr->elemtype, attr->elemlen, attr->elembyval,
					  attr->elemalign, &elements, &nulls, &nelements);

	bloom->needs = palloc0(sizeof(*bloom->needs) * Max(nelements, 1));
	for (int i = 0; i < nelements; i++)
	{
		uint64		bits[2];
		int			need = contains ? 0 : nvalues;

		if (nulls[i] && contains)
			return false;
		if (nulls[i])
			continue;
		winnow_bloom_bits(winnow_attr_hash(attr, elements[i]), bits);
		bloom->needs[need][0] |= bits[0];
		bloom->needs[need][1] |= bits[1];
		nvalues++;
	}

	if (contains && nvalues > 0)
		bloom->count = 1;
	else if (!contains)
		bloom->count = nvalues;
	if (bloom->count > 0 && bloom->count <= MAX_BLOOM_NEEDS)
		test->nsignatures++;
	return contains || nvalues > 0;
}

static int
compare_coded(const void *a, const void *b)
{
	int64		first = ((const CodedElement *) a)->code;
	int64		second = ((const CodedElement *) b)->code;

	return first < second ? -1 : first > second;
}

/* Keep a key for the recheck */
static void
keep_key(WinnowFilter *filter, const WinnowAttr *attr, ScanKey key,
		 CodedElement *elements, int count)
{
	RecheckKey *recheck = &filter->rechecks[filter->nrechecks++];

	recheck->index_attno = attr->index_attno;
	fmgr_info_copy(&recheck->function, &key->sk_func, CurrentMemoryContext);
	recheck->collation = key->sk_collation;
	recheck->count = count;
	recheck->elements = elements;

	if (attr->type->kind != WINNOW_COLUMN_SIGNATURE && !attr->type->enumerated &&
		key->sk_strategy == WINNOW_STRATEGY_EQUAL && same_type(attr, key->sk_subtype))
	{
		recheck->attr = attr;
		for (int i = 0; i < count; i++)
			elements[i].code = winnow_filter_code(attr, elements[i].value);
		qsort(elements, count, sizeof(CodedElement), compare_coded);
	}
}

/* IS [NOT] NULL; returns false when no row can satisfy it and what was before */
static bool
compile_null_test(AttrTest *test, bool want_null)
{
	if (want_null)
		test->wants_null = true;
	else
		test->wants_value = true;
	return !(test->wants_null && test->wants_value);
}

/*
 * Ask the columns to satisfy a key with the given constants, of which one must
 * do.  decided tells whether rows that pass are sure to.  Returns false when no
 * row can satisfy it.
 */
bool
winnow_test_compile(AttrTest *test, ScanKey key, const CodedElement *elements, int count,
					bool *decided)
{
	const WinnowAttr *attr = test->attr;

	*decided = false;
	if (count == 0 || !compile_null_test(test, false))
		return false;

	switch (attr->type->kind)
	{
		case WINNOW_COLUMN_ORDERED:
			*decided = compile_codes(test, key, elements, count);
			break;
		case WINNOW_COLUMN_HASHED:
			compile_hashes(test, key, elements, count);
			if (attr->prefix)
				compile_codes(test, key, elements, count);
			break;
		case WINNOW_COLUMN_SIGNATURE:
			if (!(key->sk_flags & SK_SEARCHARRAY) && !compile_signature(test, key))
				return false;
			break;
	}
	return (test->codes == NULL || test->codes->count > 0) &&
		   (test->hashes == NULL || test->hashes->count > 0);
}

/* Add the codes that "value strategy constant" is certainly true for */
static void
add_certain(CodeRangeList *list, const WinnowAttr *attr, StrategyNumber strategy,
			WinnowPlace place)
{
	if (!place.exact)
	{
		/* codes within the place may be anything, those outside are not equal */
		if (strategy == WINNOW_STRATEGY_EQUAL)
			return;
		if (strategy == WINNOW_STRATEGY_LESS_EQUAL)
			strategy = WINNOW_STRATEGY_LESS;
		else if (strategy == WINNOW_STRATEGY_GREATER_EQUAL)
			strategy = WINNOW_STRATEGY_GREATER;
		place.exact = true;
	}
	add_placed(list, attr, strategy, place);
}

/*
 * Ask the columns for a value that a key is false for, with each of the given
 * constants.  Returns false when there is none.
 */
bool
winnow_test_exclude(AttrTest *test, ScanKey key, const CodedElement *elements, int count)
{
	const WinnowAttr *attr = test->attr;
	CodeRangeList list = {0};

	if (!compile_null_test(test, false))
		return false;
	test->doubtful = equal_hashes(attr, key, elements, count);
	if (attr->type->kind != WINNOW_COLUMN_ORDERED && !attr->prefix)
		return true;

	for (int i = 0; i < count; i++)
	{
		WinnowPlace place;

		if (attr->type->enumerated && key->sk_strategy != WINNOW_STRATEGY_EQUAL)
			add_enum_values(&list, attr, key, elements[i].value);
		else if (place_constant(attr, key->sk_subtype, elements[i].value, &place))
			add_certain(&list, attr, key->sk_strategy, place);
	}
	if (list.count == 0)
		return true;
	test->codes = winnow_codes_complement(winnow_codes_set(&list));
	return test->codes->count > 0;
}

/* Compile one key on an attribute; false when no row can satisfy it */
static bool
compile_key(WinnowFilter *filter, AttrTest *test, ScanKey key)
{
	CodedElement *elements;
	int			count;
	bool		decided;

	if (key->sk_flags & (SK_SEARCHNULL | SK_SEARCHNOTNULL))
		return compile_null_test(test, (key->sk_flags & SK_SEARCHNULL) != 0);

	elements = winnow_key_elements(key, &count);
	if (!winnow_test_compile(test, key, elements, count, &decided))
		return false;
	if (!decided)
		keep_key(filter, test->attr, key, elements, count);
	return true;
}

/* The Bloom test that a summary must pass for the hashes of a test */
static void
compile_hash_bloom(AttrTest *test)
{
	BloomTest  *bloom;

	if (test->hashes == NULL || test->hashes->count > MAX_BLOOM_NEEDS)
		return;

	bloom = palloc0_object(BloomTest);
	bloom->needs = palloc(sizeof(*bloom->needs) * MAX_BLOOM_NEEDS);
	for (int i = 0; i < test->hashes->count; i++)
	{
		CodeRange	hashes = test->hashes->items[i];

		for (uint64 hash = (uint64) hashes.low;; hash++)
		{
			if (bloom->count == MAX_BLOOM_NEEDS)
				return;
			winnow_bloom_bits(hash, bloom->needs[bloom->count++]);
			if (hash == (uint64) hashes.high)
				break;
		}
	}
	test->hash_bloom = bloom;
}

/* What is made of a test when all its keys are known */
void
winnow_test_finish(const WinnowSchema *schema, AttrTest *test)
{
	if (test->codes != NULL && test->codes->count > MAX_PASSES)
		test->codes->lookup = winnow_codes_lookup(test->codes);
	if (test->hashes != NULL && test->hashes->count > MAX_PASSES)
		test->hashes->lookup = winnow_codes_lookup(test->hashes);
	compile_hash_bloom(test);
	winnow_test_imprint(schema, test);
}

/*
 * A key on the vector column, which can only be IS [NOT] NULL.  No column
 * says; the row does.
 */
static void
keep_vector_key(WinnowFilter *filter, ScanKey key)
{
	RecheckKey *recheck = &filter->rechecks[filter->nrechecks++];

	if (!(key->sk_flags & (SK_SEARCHNULL | SK_SEARCHNOTNULL)))
		elog(ERROR, "unexpected search key on the vector column");
	recheck->index_attno = key->sk_attno - 1;
	recheck->null_test = true;
	recheck->want_null = (key->sk_flags & SK_SEARCHNULL) != 0;
}

/* The test for the attribute that a key is on; NULL for the vector column */
static AttrTest *
test_of_key(WinnowFilter *filter, ScanKey key, int nkeys)
{
	const WinnowSchema *schema = filter->schema;
	AttrTest   *test;
	int			number = 0;

	if (key->sk_attno - 1 == schema->vector_attno)
		return NULL;
	while (number < schema->nattrs && schema->attrs[number].index_attno != key->sk_attno - 1)
		number++;
	if (number == schema->nattrs)
		elog(ERROR, "unexpected search key on column %d", key->sk_attno);

	for (int i = 0; i < filter->ntests; i++)
	{
		if (filter->tests[i].number == number)
			return &filter->tests[i];
	}

	test = &filter->tests[filter->ntests++];
	test->attr = &schema->attrs[number];
	test->number = number;
	test->signatures = palloc0_array(BloomTest, nkeys);
	return test;
}

/*
 * Compile the keys of a scan, which are joined by AND, in the given context.
 * The schema and the arguments of the keys must live as long as the filter.
 */
WinnowFilter *
winnow_filter_compile(const WinnowSchema *schema, ScanKey keys, int nkeys,
					  MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	WinnowFilter *filter = palloc0_object(WinnowFilter);

	filter->schema = schema;
	filter->tests = palloc0_array(AttrTest, Max(nkeys, 1));
	filter->rechecks = palloc0_array(RecheckKey, Max(nkeys, 1));

	for (int i = 0; i < nkeys && !filter->never; i++)
	{
		AttrTest   *test = test_of_key(filter, &keys[i], nkeys);

		if (test == NULL)
			keep_vector_key(filter, &keys[i]);
		else
			filter->never = !compile_key(filter, test, &keys[i]);
	}
	for (int i = 0; i < filter->ntests && !filter->never; i++)
		winnow_test_finish(schema, &filter->tests[i]);

	MemoryContextSwitchTo(old);
	return filter;
}

bool
winnow_filter_never(const WinnowFilter *filter)
{
	return filter->never;
}

Bitmapset *
winnow_filter_rechecked(const WinnowFilter *filter)
{
	Bitmapset  *columns = NULL;

	for (int i = 0; i < filter->nrechecks; i++)
		columns = bms_add_member(columns, filter->rechecks[i].index_attno);
	return columns;
}

List *
winnow_filter_conditions(const WinnowFilter *filter)
{
	return filter->conditions;
}
