"""What is offered while one types: other names lead to the gene, a slip of the finger to the nearest name."""

from scx_core.atlas.tables.suggest import gene_suggestions, near_names


def test_a_gene_is_offered_with_the_names_that_stand_for_it():
    offered = {one.text: one.words for one in gene_suggestions(["MS4A1", "HLA-DRA", "TTN"])}
    assert offered == {"HLA-DRA": "HLA-DRA (HLA-DR)", "MS4A1": "MS4A1 (CD20)", "TTN": "TTN"}


def test_a_misspelt_name_leads_to_the_nearest():
    offered = gene_suggestions(["MS4A1", "MS4A7", "CD79A", "CD74", "TTN", "PERM1"])
    assert near_names("MSA41", offered)[0] == "MS4A1"
    assert near_names("cd79", offered)[0] == "CD79A"
    assert near_names("CD02", offered)[:1] == ["MS4A1"], "also from a name that stands for it"
    assert near_names("xxxxxxxx", offered) == [] and "TTN" not in near_names("TTN", offered)
