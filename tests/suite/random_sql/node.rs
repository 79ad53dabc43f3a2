//! SQL as a tree of pieces that can be cut down.

/// The types of columns and expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Text,
    Integer,
    Decimal,
    Double,
    Boolean,
    Time,
    Date,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Text, Self::Integer, Self::Decimal, Self::Double, Self::Boolean, Self::Time, Self::Date];

    /// The letter that columns of this kind begin with.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Text => 'k',
            Self::Integer => 'n',
            Self::Decimal => 'v',
            Self::Double => 'd',
            Self::Boolean => 'b',
            Self::Time => 't',
            Self::Date => 'a',
        }
    }

    /// The type in SQL.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Integer => "BIGINT",
            Self::Decimal => "DECIMAL(18, 3)",
            Self::Double => "DOUBLE",
            Self::Boolean => "BOOLEAN",
            Self::Time => "TIMESTAMP",
            Self::Date => "DATE",
        }
    }

    /// Some value.
    pub(super) fn literal(self) -> &'static str {
        match self {
            Self::Text => "'x'",
            Self::Integer => "1",
            Self::Decimal => "CAST(1.5 AS DECIMAL(18, 3))",
            Self::Double => "CAST(0.5 AS DOUBLE)",
            Self::Boolean => "true",
            Self::Time => "arrow_cast('1970-01-01T01:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
            Self::Date => "DATE '1970-01-02'",
        }
    }
}

/// A column: its name and kind.
pub(super) type Column = (String, Kind);

/// Columns of these kinds, each named by its kind's letter and a number.
pub(super) fn columns(kinds: &[Kind]) -> Vec<Column> {
    let name = |(place, &kind): (usize, &Kind)| {
        let before = kinds[..place].iter().filter(|&&other| other == kind).count();
        (format!("{}{before}", kind.letter()), kind)
    };
    kinds.iter().enumerate().map(name).collect()
}

#[derive(Debug, Clone)]
pub(super) enum Sort {
    /// A SELECT with these columns.
    Query(Vec<Column>),
    Value(Kind),
    /// What the rest does without, such as a WHERE.
    Clause,
    /// What the rest needs.
    Part,
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Text(String),
    Node(Node),
    /// What a job says, and what the batch says in its place, which never fails.
    Either {
        job: String,
        batch: String,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) sort: Sort,
    pub(super) pieces: Vec<Piece>,
}

impl Node {
    pub(super) fn query(columns: Vec<Column>, pieces: Vec<Piece>) -> Self {
        Self { sort: Sort::Query(columns), pieces }
    }

    pub(super) fn value(kind: Kind, pieces: Vec<Piece>) -> Self {
        Self { sort: Sort::Value(kind), pieces }
    }

    pub(super) fn part(pieces: Vec<Piece>) -> Self {
        Self { sort: Sort::Part, pieces }
    }

    pub(super) fn clause(pieces: Vec<Piece>) -> Self {
        Self { sort: Sort::Clause, pieces }
    }

    /// The SQL of the job.
    pub(super) fn sql(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, false);
        text
    }

    /// The SQL over the rows on which the job's does not fail.
    pub(super) fn batch_sql(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, true);
        text
    }

    fn write(&self, text: &mut String, in_batch: bool) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Node(node) => node.write(text, in_batch),
                Piece::Either { job, batch } => text.push_str(if in_batch { batch } else { job }),
            }
        }
    }

    /// Smaller trees, the ones that lose most first. `leaf` reads columns of these names and kinds from a table.
    pub(super) fn smaller(&self, leaf: &dyn Fn(&[Column]) -> Self) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        match &self.sort {
            Sort::Query(columns) => {
                let queries = self.children().filter(|child| matches!(child.sort, Sort::Query(_)));
                let before = found.len();
                found.extend(queries.cloned());
                if found.len() > before {
                    found.push(leaf(columns));
                }
            }
            Sort::Value(kind) => {
                let same = |child: &&Self| matches!(child.sort, Sort::Value(other) if other == *kind);
                found.extend(self.children().filter(same).cloned());
                if self.pieces.len() > 1 {
                    found.push(Self::value(*kind, vec![text(kind.literal())]));
                }
            }
            Sort::Clause if !self.pieces.is_empty() => found.push(Self::clause(Vec::new())),
            Sort::Clause | Sort::Part => {}
        }
        for (place, piece) in self.pieces.iter().enumerate() {
            let Piece::Node(child) = piece else { continue };
            for less in child.smaller(leaf) {
                if let (Sort::Query(before), Sort::Query(after)) = (&child.sort, &less.sort)
                    && !before.iter().all(|column| after.contains(column))
                {
                    continue;
                }
                let mut node = self.clone();
                node.pieces[place] = Piece::Node(less);
                found.push(node);
            }
        }
        found
    }

    /// The next queries and values below, whatever clauses lie between.
    fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        Box::new(self.pieces.iter().flat_map(|piece| -> Box<dyn Iterator<Item = &Self> + '_> {
            match piece {
                Piece::Node(node) if matches!(node.sort, Sort::Clause | Sort::Part) => node.children(),
                Piece::Node(node) => Box::new(std::iter::once(node)),
                _ => Box::new(std::iter::empty()),
            }
        }))
    }
}

pub(super) fn text(text: impl Into<String>) -> Piece {
    Piece::Text(text.into())
}

/// Pieces from a template in which `{}` stands for the next node.
pub(super) fn fill(template: &str, nodes: Vec<Node>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut parts = template.split("{}");
    let mut nodes = nodes.into_iter();
    if let Some(first) = parts.next() {
        pieces.push(text(first));
    }
    for part in parts {
        pieces.extend(nodes.next().map(Piece::Node));
        pieces.push(text(part));
    }
    pieces
}

/// Values under the names of columns, with commas between.
pub(super) fn listed(values: Vec<Node>, names: &[Column]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (place, (value, (name, _))) in values.into_iter().zip(names).enumerate() {
        if place > 0 {
            pieces.push(text(", "));
        }
        pieces.push(Piece::Node(value));
        pieces.push(text(format!(" AS {name}")));
    }
    pieces
}
