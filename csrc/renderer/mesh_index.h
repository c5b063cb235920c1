// The one integer buffer that describes the faces of a batch of meshes to the renderer.
//
// Vertices, faces and edges are sorted by patches of the surface, mesh by mesh, because neighbours in the picture should be
// neighbours in memory: at 40,000 vertices that is worth a factor of several. A header of kHeaderSize numbers, then the sections.
#pragma once

#include <cstdint>
#include <vector>

namespace largesteps::renderer {

constexpr int32_t kMagic = 0x4c535231;  // changes with the format
constexpr int32_t kHeaderSize = 32;

enum Header : int32_t {
  kMagicNumber,
  kTotalSize,  // of the buffer
  kNumMeshes,
  kNumVerts,
  kNumFaces,
  kNumEdges,
  kSectionOffsets = 8,  // where each section starts, in the order of Section
};

enum Section : int32_t {
  kVertFirst, kFaceFirst, kEdgeFirst,  // num_meshes + 1: where the vertices, faces and edges of each mesh begin
  kVertOrder,    // num_verts: the given number of each sorted vertex
  kFaceOrder,    // num_faces: the given number of each sorted face
  kCorners,      // num_faces x 4: sorted vertices of a face; the last is 0
  kEdgeEnds,     // num_edges x 2: sorted vertices, the one with the lower given number first
  kEdgeFaces,    // num_edges x 2: see below
  kMoreFaces,    // of edges with three faces or more: their number, then the faces
  kCornerFirst,  // num_verts + 1: where the corners of each vertex begin
  kVertCorners,  // num_faces x 3: 4 * face + corner, by vertex
  kNumSections,
};
static_assert(kSectionOffsets + kNumSections < kHeaderSize, "the header holds an offset per section");

// A face of an edge is stored as 2 * face + 1 if the face runs along the edge from its first to its second vertex, else
// 2 * face. An edge with one face has kNoFace as its second. An edge with more than two has kMore as its second, and as its
// first its place in kMoreFaces.
constexpr int32_t kNoFace = -1;
constexpr int32_t kMore = -2;

// Pointers into a buffer.
struct MeshIndex {
  const int32_t* data;

  int32_t operator[](Header field) const { return data[field]; }
  const int32_t* operator[](Section section) const { return data + data[kSectionOffsets + section]; }
};

// Makes the buffer.
//   faces: num_faces x 3, of the packed vertices. vert_first, face_first: num_meshes + 1 numbers.
// Throws std::invalid_argument for a corner that is no vertex of the face's mesh, and for meshes too large for 32 bits.
std::vector<int32_t> make_mesh_index(const int64_t* faces, int64_t num_meshes, const int64_t* vert_first,
                                     const int64_t* face_first);

// Whether the buffer can be what make_mesh_index made: the header and the sizes of the sections, not their contents.
bool looks_valid(const int32_t* data, int64_t size);

}  // namespace largesteps::renderer
