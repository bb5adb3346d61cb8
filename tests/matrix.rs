mod support {
    pub mod recordings;
    pub mod upstream;
    pub mod gateway;
}
#[test]
fn x() { println!("{}", support::recordings::all().len()); }
