"""Operations on surfaces: remeshing, repair, and a start from silhouettes."""
