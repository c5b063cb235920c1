// Which Python code a compiled library belongs to.
#pragma once

#include <cstdint>

// Goes up with every change of a schema, of what an operator means, or of a buffer's format, here and in
// pt3d_largesteps/native/library_version.py.
#define LARGESTEPS_LIBRARY_VERSION 2

namespace largesteps::bindings {

#define LARGESTEPS_AS_TEXT(number) #number
#define LARGESTEPS_TEXT_OF(macro) LARGESTEPS_AS_TEXT(macro)

// For Python to find in the file: a library that is loaded has registered its operators, and then it is too late to refuse it.
[[gnu::used]] constexpr char kVersionMarker[] =
    "pt3d_largesteps library version " LARGESTEPS_TEXT_OF(LARGESTEPS_LIBRARY_VERSION) ";";

inline int64_t version() { return LARGESTEPS_LIBRARY_VERSION; }

}  // namespace largesteps::bindings
