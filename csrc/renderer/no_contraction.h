// First of all in a file whose sums and products must not be fused, whatever the processor: the visible faces would differ from
// PyTorch3D's, and results between processors.
#pragma once

#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off", "no-math-errno", "no-trapping-math")
#endif
