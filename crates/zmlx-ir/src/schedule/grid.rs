//! What a host computes of the size of a launch: numbers of blocks and of partial sums, lengths of scratch memory. All
//! of it is arithmetic: nothing is allocated.

use crate::kernel::Role;

/// The size of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
    /// Does a row of the step's leading tensor start off a boundary of 16 bytes?
    pub shifted: bool,
}

/// What a schedule needs to know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Processors that run blocks side by side.
    pub processors: u32,
    /// Bytes of shared memory that a launch may ask for, beside what a text declares.
    pub shared: u32,
    /// Most blocks that can share a row, as a cluster; 1 where a block is alone.
    pub cluster: u32,
}

impl Default for Device {
    fn default() -> Device {
        Device { processors: 132, shared: 0, cluster: 1 }
    }
}

/// Most blocks of a grid.
const MOST: u64 = i32::MAX as u64;

/// How many blocks a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// So many chunks of `vector` elements a block.
    Chunks {
        /// Chunks a block.
        block: u32,
        /// Elements a chunk.
        vector: u32,
    },
    /// So many rows a block.
    Rows(u32),
    /// A row a cluster of so many blocks.
    Clusters(u32),
    /// Blocks that stay: each adds up many rows of `tile` columns (0: of all columns), and leaves a partial sum of each.
    Parts {
        /// Rows that a block holds at a time.
        rows: u32,
        /// Columns that it covers, 0 for all.
        tile: u32,
        /// Blocks that share a row, and the partial sums of its columns.
        cluster: u32,
        /// Blocks that a processor runs side by side.
        resident: u32,
    },
    /// So many columns a block.
    Cols(u32),
    /// One block.
    One,
}

impl Grid {
    /// Number of blocks, at least 1.
    pub fn blocks(self, size: Size, device: Device) -> u32 {
        let n = match self {
            Grid::Chunks { block, vector } => size.rows.saturating_mul(size.chunks(vector)).div_ceil(u64::from(block)),
            Grid::Rows(n) => size.rows.div_ceil(u64::from(n)),
            Grid::Clusters(n) => {
                let n = u64::from(n.max(1));
                size.rows.clamp(1, MOST / n) * n
            }
            Grid::Parts { tile, cluster, .. } => {
                u64::from(self.parts(size, device)) * tiles(size, tile) * u64::from(cluster.max(1))
            }
            Grid::Cols(n) => size.cols.div_ceil(u64::from(n)),
            Grid::One => 1,
        };
        n.clamp(1, MOST) as u32
    }

    /// Number of partial sums a column, at least 1: what [`Role::Parts`] holds.
    pub fn parts(self, size: Size, device: Device) -> u32 {
        let Grid::Parts { rows, tile, resident, cluster } = self else { return 1 };
        let places = u64::from(device.processors) * u64::from(resident) / u64::from(cluster.max(1));
        let most = places.div_ceil(tiles(size, tile));
        size.rows.div_ceil(u64::from(rows)).min(most).max(1) as u32
    }
}

fn tiles(size: Size, tile: u32) -> u64 {
    if tile == 0 { 1 } else { size.cols.div_ceil(u64::from(tile)).max(1) }
}

impl Size {
    /// Chunks of so many elements that cover any row.
    pub fn chunks(self, vector: u32) -> u64 {
        let slack = if self.shifted { vector - 1 } else { 0 };
        (self.cols + u64::from(slack)).div_ceil(u64::from(vector))
    }

    /// Columns padded to a multiple of so many, at least once that.
    fn pitch(self, n: u32) -> u64 {
        self.cols.max(1).next_multiple_of(u64::from(n.max(1)))
    }

    /// The value of a field that follows from the size alone; `launch_rows` are those of the launch, `parts`
    /// and `blocks` those of the step that leaves partial sums.
    pub fn field(self, role: Role, launch_rows: u64, parts: u32, blocks: u32) -> Option<u64> {
        Some(match role {
            Role::Rows => self.rows,
            Role::LaunchRows => launch_rows,
            Role::Cols => self.cols,
            Role::Chunks(vector) => self.chunks(vector),
            Role::Pitch(n) => self.pitch(n),
            Role::Parts => u64::from(parts),
            Role::Blocks => u64::from(blocks),
            _ => return None,
        })
    }
}

/// Length of scratch memory, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// One.
    One,
    /// One a row.
    Rows,
    /// One a column.
    Cols,
    /// One an element.
    Elems,
    /// One a partial sum and column, columns padded to a multiple of so many.
    Parts(u32),
    /// One a block of the step that leaves partial sums.
    Blocks,
}

impl Length {
    /// Number of elements; `parts` and `blocks` are those of the step that leaves partial sums.
    pub fn elements(self, size: Size, parts: u32, blocks: u32) -> u64 {
        match self {
            Length::One => 1,
            Length::Rows => size.rows,
            Length::Cols => size.cols,
            Length::Elems => size.rows * size.cols,
            Length::Parts(n) => u64::from(parts) * size.pitch(n),
            Length::Blocks => u64::from(blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 1000, cols: 10, shifted: false };
    const DEVICE: Device = Device { processors: 100, shared: 0, cluster: 1 };

    #[test]
    fn chunks_cover_rows_that_start_anywhere() {
        assert_eq!(SIZE.chunks(4), 3);
        // 3 + 10 elements: four chunks
        assert_eq!(Size { shifted: true, ..SIZE }.chunks(4), 4);
        assert_eq!(Size { cols: 8, ..SIZE }.chunks(4), 2);
    }

    #[test]
    fn blocks_that_stay_are_no_more_than_there_are_rows_or_places() {
        let few = Grid::Parts { rows: 2, tile: 0, resident: 2, cluster: 1 };
        assert_eq!((few.blocks(SIZE, DEVICE), few.parts(SIZE, DEVICE)), (200, 200));
        let rows = Size { rows: 5, ..SIZE };
        assert_eq!((few.blocks(rows, DEVICE), few.parts(rows, DEVICE)), (3, 3));
        let tiled = Grid::Parts { rows: 1, tile: 4, resident: 1, cluster: 1 };
        assert_eq!((tiled.blocks(SIZE, DEVICE), tiled.parts(SIZE, DEVICE)), (102, 34));
        assert_eq!(Length::Parts(4).elements(SIZE, 34, 102), 34 * 12);
    }

    #[test]
    fn a_grid_of_clusters_has_whole_ones() {
        assert_eq!(Grid::Clusters(8).blocks(SIZE, DEVICE), 8000);
        assert_eq!(Grid::Clusters(8).blocks(Size { rows: 0, ..SIZE }, DEVICE), 8);
        assert_eq!(Grid::Clusters(8).blocks(Size { rows: u64::MAX, ..SIZE }, DEVICE) % 8, 0);
        // 100 places are 12 clusters of 8, each of which leaves one partial sum
        let stay = Grid::Parts { rows: 1, tile: 0, resident: 1, cluster: 8 };
        assert_eq!((stay.blocks(SIZE, DEVICE), stay.parts(SIZE, DEVICE)), (96, 12));
        assert_eq!(stay.blocks(SIZE, Device { processors: 0, ..DEVICE }), 8);
    }
}
