/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/api/json_text.h"

#include "tests/harness.h"

struct str json_text_compact(struct str json, struct arena *a)
{
    struct buf out = buf_init(16 * MIB);
    struct json_writer w = json_writer_init(&out, 0);
    struct json_reader r;
    json_reader_init(&r, json, a);
    for (enum json_type t; (t = json_next(&r)) != JSON_END;) {
        if (t == JSON_ERROR)
            test_fail(__FILE__, __LINE__, "%s at byte %zu: %.*s", r.why, json_offset(&r),
                      STR_ARG(str_take(str_skip(json, json_offset(&r)), 40)));
        if (t == JSON_OBJECT)
            json_object(&w);
        else if (t == JSON_OBJECT_END)
            json_object_end(&w);
        else if (t == JSON_ARRAY)
            json_array(&w);
        else if (t == JSON_ARRAY_END)
            json_array_end(&w);
        else if (t == JSON_KEY)
            json_key(&w, r.text);
        else if (t == JSON_STRING)
            json_str(&w, r.text);
        else
            json_raw(&w, t == JSON_NUMBER ? r.text
                         : t == JSON_NULL ? STR("null")
                         : t == JSON_TRUE ? STR("true")
                                          : STR("false"));
    }
    struct str text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}
