"""Tables, sentences and the page, from invented records, so that every answer is known."""

import html.parser
import json
import re

import pytest

from dscgan_jax.errors import InputError
from dscgan_jax.evaluation import records
from dscgan_jax.findings import Finding
from dscgan_jax.pages import parts, report, sentences, tables

RUN = {
    "created": "2025-03-04T05:06:07+00:00",
    "software": {"dscgan_jax": "0.1.0", "jax": "0.10.2", "git": None},
    "split": "test",
    "excluded": [{"subject": "sub-9", "reason": "no <bolus>"}],
    "findings": {
        "sub-1": [
            Finding("motion", "warning", "the head moved by <2 mm>").to_json(),
            Finding("noisy", "note", "nobody warns of it").to_json(),
        ]
    },
    "checkpoint": {"step": 120, "selected_by": "best", "sha256": "abcdef0123456789"},
    "config_sha256": None,
    "data": {"source": "phantom exams", "fingerprint": "f00", "n_train": 3, "n_validation": 1, "n_test": 2},
    "protocol": {
        "rows": 64,
        "cols": 64,
        "slices": 0,
        "frames": 80,
        "time_mode": "stretch",
        "signal": "raw",
        "ranges": "percentile",
        "data_range": 2.0,
        "ssim_window": 7,
    },
    "wall_seconds": 3.0,
}


def record(subject, source, mae, predicted_ml, dice, **changes):
    """A row of Tmax; the reference has 20 ml, sub-2 none."""
    reference_ml = 20.0 if subject == "sub-1" else 0.0
    row = dict.fromkeys(records.COLUMNS) | {
        "subject": subject,
        "split": "test",
        "source": source,
        "map": "tmax",
        "unit": "s",
        "n_slices": 5,
        "n_brain_voxels": 1234,
        "mask_source": "file",
        "brain_mae": mae,
        "brain_rmse": 2 * mae,
        "brain_bias": -mae,
        "brain_pearson_r": None if source in parts.NULLS else 0.9,
        "brain_ssim": 0.8,
        "scaled_ssim": 0.93,
        "scaled_mae": 0.01,
        "scaled_mse": 0.001,
        "scaled_nrmse": 0.05,
        "scaled_psnr": 30.0,
        "clipped_fraction": 0.0,
        "moved": False,
        "truncated": False,
    }
    for threshold in records.THRESHOLDS:
        columns = records.overlap_columns(threshold)
        row |= {
            columns["dice"]: dice,
            columns["volume_predicted_ml"]: predicted_ml,
            columns["volume_reference_ml"]: reference_ml,
        }
    return row | changes


def rows(network_mae=0.5, **changes):
    return [
        record("sub-1", "network_per_slice", network_mae, 18.0, 0.8, **changes),
        record("sub-1", "blank", 3.0, 0.0, 0.0),
        record("sub-1", "null_median", 1.0, 0.0, 0.0),
        record("sub-2", "network_per_slice", network_mae, 0.0, None),
        record("sub-2", "blank", 3.0, 0.0, None),
        record("sub-2", "null_median", 1.0, 0.0, None),
    ]


def write_run(workdir, of_subjects):
    folder = workdir / "evaluation" / "test"
    folder.mkdir(parents=True)
    records.write_subjects(folder / "subjects.csv", of_subjects)
    summary = records.summarise(records.read_subjects(folder / "subjects.csv"), RUN)
    records.write_summary(folder / "summary.json", summary)
    return folder


class Reader(html.parser.HTMLParser):
    """Text, addresses and the balance of tags."""

    def __init__(self, page):
        super().__init__()
        self.open, self.links, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def summary():
    return records.summarise(rows(), RUN)


def test_the_table_shows_the_network_beside_both_nulls(summary):
    lines = tables.format_table(summary).splitlines()
    heads = [line for line in lines if line.startswith("Tmax")]
    assert "brain MAE" in heads[0] and "slice SSIM" in heads[0] and heads[1].startswith("Tmax > 6 s")
    network, blank, median = lines[1:4]
    assert network.split() == [
        "network_per_slice",
        "0.50",
        "±",
        "0.00",
        "-0.50",
        "0.90",
        "0.80",
        "|",
        "0.930",
        "±",
        "0.000",
        "0.050",
        "30.0",
    ]
    assert blank.split()[4:6] == ["-3.00", "–"] and median.split()[0] == "null_median"
    overlap = next(line for line in lines[lines.index(heads[1]) :] if line.startswith("network_per_slice"))
    assert overlap.split() == ["network_per_slice", "0.80", "0.80", "(1)", "1", "9.0", "10.0", "-1.0"]


def test_the_tables_columns_are_aligned(summary):
    lines = tables.format_table(summary).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1 and len({len(line) for line in lines[5:9]}) == 1
    assert max(map(len, lines)) <= 110
    assert {line.index("|") for line in lines[:4]} == {lines[0].index("|")}


def test_exams_with_warnings_are_named_and_notes_are_not(summary):
    assert sentences.exam_warnings(summary) == ["sub-1: the head moved by <2 mm>"]
    assert sentences.exam_warnings({**summary, "findings": {}}) == []


def test_the_result_is_given_beside_the_training_median(summary):
    found = sentences.in_brief(summary)
    assert found[0].startswith(
        "Tmax: mean absolute error 0.50 s inside the brain, 0.50 times that of the training median"
    )
    assert "Dice 0.80 over all voxels; mean volume 9 mL, reference 10 mL" in found[1]


def test_a_network_no_better_than_the_median_is_called_so():
    better, worse = (records.summarise(rows(network_mae=error), RUN) for error in (0.5, 1.2))
    assert any("no closer to the reference than the training median" in text for text in sentences.warnings(worse))
    assert not any("no closer" in text for text in sentences.warnings(better))


def test_the_limits_of_the_tables_are_listed():
    made = rows(moved=True, truncated=True, mask_source="maps", clipped_fraction=0.25)
    text = " ".join(sentences.limitations(records.summarise(made, RUN), made))
    for words in (
        "digital phantom exams",
        "Only 2 subjects",
        "1 of 2 subjects moved",
        "sub-1",
        "ends early",
        "without a brain mask; used instead: the union of their maps",
        "25%, sub-1",
        "1 subject excluded: sub-9",
    ):
        assert words in text


def test_intended_use_and_warnings_come_before_the_numbers(tmp_path):
    write_run(tmp_path, rows())
    page = report.write(tmp_path).read_text()
    places = [page.index(words) for words in ("not for diagnosis", "the head moved", "phantom exams", "<table>")]
    assert places == sorted(places)


def test_the_page_is_one_well_formed_file_with_its_pictures_inside(tmp_path):
    folder = write_run(tmp_path, rows())
    (folder / "best_subject.png").write_bytes(b"\x89PNG of the best")
    (tmp_path / "metrics.jsonl").write_text('{"loss_g": 1.0, "step": 1}\n{"loss_g": 0.5, "step": 2}\n')
    (tmp_path / "config.json").write_text(json.dumps({"model": {"generator": "temporal", "width": 8}}))
    path = report.write(tmp_path)
    assert path == tmp_path / "report.html"
    page = Reader(path.read_text())
    assert page.open == []
    assert len(page.links) == 3 and all(link.startswith("data:image/png;base64,") for link in page.links)
    text = " ".join(page.texts)
    for words in (
        "Tmax: 2 test subjects",
        "network, per-slice statistics",
        "null: training median",
        "sub-2",
        "no <bolus>",
        "step 120, best, weights abcdef012345",
        "temporal generator, width 8",
        "jax 0.10.2",
        "2025-03-04 05:06",
    ):
        assert words in text
    assert "None" not in text and "nan" not in re.findall(r"\w+", text)


def test_a_page_without_training_or_pictures_leaves_those_sections_out(tmp_path):
    write_run(tmp_path, rows())
    titles = re.findall("<h2>(.*?)</h2>", report.write(tmp_path).read_text())
    assert titles == [
        "In brief",
        "Intended use",
        "Warnings",
        "Limitations",
        "Errors over subjects",
        "Hypoperfused tissue",
        "Agreement of volumes",
        "All subjects",
        "Training, data and scoring",
        "How to read the numbers",
    ]


def made_of_six(core_ml):
    """Six subjects with 20, 40, ... mL, a network that misses the first and a null that finds none."""
    columns = records.overlap_columns(6.0)
    made = []
    for number in range(1, 7):
        for source, predicted in (("network_per_slice", 21.0 * number * (number > 1)), ("blank", 0.0)):
            row = record(f"sub-{number}", source, 0.5, predicted, 0.5, core_ml=core_ml)
            made.append(row | {columns["volume_reference_ml"]: 20.0 * number})
    return made


def section_of(page, title):
    return page.split(f"<h2>{title}</h2>")[1].split("</section>")[0]


def test_subjects_can_be_sorted_and_those_with_notes_chosen(tmp_path):
    made = made_of_six(core_ml=5.0)
    made[0]["moved"] = made[1]["moved"] = True
    write_run(tmp_path, made)
    shown = section_of(report.write(tmp_path).read_text(), "All subjects")
    headings = re.findall(r'data-kind="(\w+)" aria-sort="none"><button type="button">([^<]*)<', shown)
    assert headings[0] == ("words", "subject") and ("number", "Tmax &gt; 6 s Dice") in headings
    lines = re.findall(r'<tr data-kind="(\w+)"><th scope="row">(sub-\d)</th>(.*?)</tr>', shown)
    assert [(kind, subject) for kind, subject, _ in lines][:2] == [("noted", "sub-1"), ("plain", "sub-2")]
    assert all(cells.count("<td") == len(headings) - 1 for _, _, cells in lines)
    assert 'data-name="Tmax &gt; 6 s reference [mL]" data-value="40">40.0' in lines[1][2]


def test_agreement_of_volumes_is_told_beside_that_of_others(tmp_path):
    write_run(tmp_path, made_of_six(core_ml=5.0))
    shown = section_of(report.write(tmp_path).read_text(), "Agreement of volumes")
    text = " ".join(Reader(shown).texts)
    for words in ("limits of agreement", "ICC(2,1)", "concordance", "DEFUSE 3", "EXTEND", "Meier", "0.88", "20.5 mL"):
        assert words in text
    network, blank = re.findall("<tr[^>]*><th>(?:network|null: blank).*?</tr>", shown.split("EXTEND")[1])
    assert re.findall("<td>([^<]*)</td>", network)[:4] == ["6", "5", "6", "5"]
    assert re.findall("<td>([^<]*)</td>", blank)[:5] == ["6", "0", "6", "0", "0.00 (0.00 to 0.00)"]
    assert text.index("other data") < text.index("Meier")


def test_without_a_core_nothing_is_said_of_eligibility(tmp_path):
    write_run(tmp_path, made_of_six(core_ml=None))
    shown = section_of(report.write(tmp_path).read_text(), "Agreement of volumes")
    assert "ICC(2,1)" in shown and "<h3>Eligibility" not in shown


def test_records_from_before_agreement_was_told_have_a_page(tmp_path):
    folder = write_run(tmp_path, made_of_six(core_ml=5.0))
    summary = json.loads((folder / "summary.json").read_text())
    younger = (
        "volume_abs_error_ml",
        "volume_limits_ml",
        "volume_icc",
        "volume_concordance",
        "intervals",
        "eligibility",
    )
    for result in summary["results"].values():
        for overlap in result["hypoperfusion"].values():
            for name in younger:
                overlap.pop(name, None)
    records.write_summary(folder / "summary.json", summary)
    shown = section_of(report.write(tmp_path).read_text(), "Agreement of volumes")
    assert "data:image/png" in shown and "ICC(2,1)" not in shown


def test_maps_that_nothing_was_trained_for_have_a_page_without_the_papers_protocol(tmp_path):
    blank = dict.fromkeys(records.SCALED_COLUMNS) | {"clipped_fraction": None}
    made = [row | blank for row in rows()]
    folder = write_run(tmp_path, made)
    protocol = {**RUN["protocol"], "signal": None, "ranges": None}
    run = {**RUN, "checkpoint": None, "protocol": protocol}
    records.write_summary(folder / "summary.json", records.summarise(made, run))
    text = " ".join(Reader(report.write(tmp_path).read_text()).texts)
    assert "not scored: no training split" in text and "None" not in text


def test_maps_of_a_folder_get_a_page_too(tmp_path):
    made = [{**row, "source": row["source"].replace("network_per_slice", "mine<1>")} for row in rows()]
    folder = write_run(tmp_path, made)
    records.write_summary(folder / "summary.json", records.summarise(made, {**RUN, "checkpoint": None}))
    text = " ".join(Reader(report.write(tmp_path).read_text()).texts)
    assert "mine<1>" in text and "none: maps from a folder" in text


def test_another_split_does_not_overwrite_the_test_page(tmp_path):
    folder = write_run(tmp_path, rows())
    folder.rename(folder.parent / "validation")
    assert report.write(tmp_path, "validation").name == "report_validation.html"


def test_a_run_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"summary.json: cannot be read.*--mode=evaluate"):
        report.write(tmp_path)


def test_maps_at_the_ends_of_their_range_are_warned_of_where_the_reference_is_not_there(tmp_path):
    def warned(made, measured):
        of_subjects = rows(saturated_fraction=made, saturated_reference=measured)
        return sentences.saturated(records.summarise(of_subjects, RUN), of_subjects)

    assert warned(0.05, 0.0) == warned(0.4, 0.35) == warned(None, None) == []
    (text,) = warned(0.4, 0.1)
    assert "in 1 subject of 1 many voxels" in text and "up to 40% of the brain, 10% in the reference, sub-1" in text
    assert "40% of the brain, 10% in the reference" in report_page(
        rows(saturated_fraction=0.4, saturated_reference=0.1), []
    )


def test_a_lost_discriminator_is_warned_of():
    told = "the discriminator tells all real maps from all fake ones"
    training = [{"step": 20, "loss_g": 1.0}, {"step": 40, "loss_g": 1.0, "discriminator_won": 1.0}]
    assert told in report_page(rows(), training)
    assert told not in report_page(rows(), training[:1])


def report_page(of_subjects, training):
    return report.page(records.summarise(of_subjects, RUN), of_subjects, {}, training, None)
