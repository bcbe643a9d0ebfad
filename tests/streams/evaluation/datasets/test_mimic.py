"""The next visit's diagnosis, on small files of MIMIC-IV's form."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.evaluation.dataset import DatasetError
from streams.evaluation.datasets.mimic import next_diagnosis

PATIENTS = "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod"
ADMISSIONS = (
    "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,admission_location,discharge_location,"
    "insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag"
)
DIAGNOSES = "subject_id,hadm_id,seq_num,icd_code,icd_version"
TITLES = "icd_code,icd_version,long_title"


def stay(patient: int, admission: int, admitted: str, discharged: str, kind: str = "EW EMER.") -> str:
    return f"{patient},{admission},{admitted} 12:00:00,{discharged} 18:00:00,,{kind},P1,EMERGENCY ROOM,HOME,Other,ENGLISH,,WHITE,,,0"


class Release:
    """The four files, as rows that a test may change before they are written."""

    def __init__(self) -> None:
        self.patients = ["10,F,60,2150,2014 - 2016,", "11,M,40,2120,2014 - 2016,", "12,M,30,2130,2014 - 2016,"]
        self.admissions = [
            stay(10, 102, "2152-03-01", "2152-03-04"),
            stay(10, 101, "2151-01-01", "2151-01-03", "ELECTIVE"),
            stay(10, 103, "2153-05-01", "2153-05-02"),
            stay(11, 111, "2120-02-01", "2120-02-11"),
            stay(11, 112, "2121-02-01", "2121-02-02"),
            stay(12, 121, "2130-02-01", "2130-02-02"),
        ]
        self.diagnoses = [
            "10,101,1,I5032,10",
            "10,101,2,E119,10",
            "10,101,3,I10,10",
            "10,102,2,E119,10",
            "10,102,1,I5033,10",
            "10,103,1,N179,10",
            "11,111,1,4280  ,9",
            "11,112,1,I5033,10",
            "12,121,1,Z9999,10",
        ]
        self.titles = [
            'I5032,10,"Chronic diastolic (congestive) heart failure"',
            'I5033,10,"Acute on chronic diastolic (congestive) heart failure"',
            'N17,10,"Acute kidney failure"',
            '4280,9,"Congestive heart failure, unspecified"',
        ]

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for name, header, rows in (
            ("patients", PATIENTS, self.patients),
            ("admissions", ADMISSIONS, self.admissions),
            ("diagnoses_icd", DIAGNOSES, self.diagnoses),
            ("d_icd_diagnoses", TITLES, self.titles),
        ):
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join([header, *rows, ""]).encode()))
        return folder


def test_each_stay_but_a_patients_last_is_observed_at_its_end_and_answered_at_the_next_ones(tmp_path: Path) -> None:
    dataset = next_diagnosis(Release().write(tmp_path))
    assert [(case.observation.entity, case.observation.id, case.truth) for case in dataset.cases] == [
        ("patient-11", "admission-111", "I50"),
        ("patient-10", "admission-101", "I50"),
        ("patient-10", "admission-102", "N17"),
    ]
    case = dataset.cases[1]
    assert case.observation.time == datetime(2151, 1, 3, 18, tzinfo=UTC)
    assert case.known_at == dataset.cases[2].observation.time
    assert case.observation.values == {
        "age": 61,
        "sex": "F",
        "admission": "ELECTIVE",
        "days": 2.2,
        "diagnosis": "I50",
        "secondary_diagnoses": 2,
        "title": "Chronic diastolic (congestive) heart failure",
    }


def test_the_ninth_versions_categories_are_kept_apart(tmp_path: Path) -> None:
    release = Release()
    release.diagnoses[7] = "11,112,1,4280,9"
    release.diagnoses[5] = "10,103,1,E8889,9"
    dataset = next_diagnosis(release.write(tmp_path))
    assert [case.truth for case in dataset.cases] == ["icd9-428", "I50", "icd9-E888"]
    assert dataset.cases[0].observation.values["diagnosis"] == "icd9-428"


def test_the_most_frequent_categories_are_labels_and_the_rest_is_other(tmp_path: Path) -> None:
    dataset = next_diagnosis(Release().write(tmp_path), labels=1)
    assert dataset.configured().target.labels == ("I50", "other")
    assert [(case.observation.values["diagnosis"], case.truth) for case in dataset.cases] == [
        ("other", "I50"),
        ("I50", "I50"),
        ("I50", "other"),
    ]


def test_the_settings_are_those_of_a_run_and_say_what_the_labels_mean(tmp_path: Path) -> None:
    settings = next_diagnosis(Release().write(tmp_path)).configured()
    assert settings.target.labels == ("I50", "N17", "other")
    assert settings.target.top_k == 3
    assert settings.observations.text_fields == ("title",)
    assert "I50: Acute on chronic diastolic (congestive) heart failure" in settings.memory.facts
    assert "N17: Acute kidney failure" in settings.memory.facts


def test_a_stay_without_a_principal_diagnosis_is_left_out(tmp_path: Path) -> None:
    release = Release()
    release.diagnoses[4] = "10,102,3,I5033,10"
    dataset = next_diagnosis(release.write(tmp_path))
    assert [(case.observation.id, case.truth) for case in dataset.cases] == [("admission-111", "I50"), ("admission-101", "N17")]


def test_plain_files_in_the_releases_folder_are_read_as_well(tmp_path: Path) -> None:
    folder = Release().write(tmp_path / "hosp")
    for path in folder.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert len(next_diagnosis(tmp_path).cases) == 3


def test_patients_are_taken_by_their_ids_and_labels_are_counted_over_all(tmp_path: Path) -> None:
    dataset = next_diagnosis(Release().write(tmp_path), patients=1)
    assert {case.observation.entity for case in dataset.cases} == {"patient-10"}
    assert dataset.configured().target.labels == next_diagnosis(tmp_path).configured().target.labels


def test_readers_are_warned_that_the_data_may_not_be_shared(tmp_path: Path) -> None:
    assert any("credentialed" in note for note in next_diagnosis(Release().write(tmp_path)).notes)


def test_a_missing_file_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    (Release().write(tmp_path) / "diagnoses_icd.csv.gz").unlink()
    with pytest.raises(DatasetError, match=r"neither diagnoses_icd\.csv\.gz nor diagnoses_icd\.csv .*physionet\.org/content/mimiciv"):
        next_diagnosis(tmp_path)


def test_a_missing_column_is_told_with_its_file(tmp_path: Path) -> None:
    (Release().write(tmp_path) / "patients.csv.gz").write_bytes(gzip.compress(b"subject_id,gender,dob\n10,F,2090\n"))
    with pytest.raises(
        DatasetError, match=r"patients\.csv\.gz: no column anchor_age, anchor_year; there are subject_id, gender, dob.*physionet"
    ):
        next_diagnosis(tmp_path)


@pytest.mark.parametrize(
    ("file", "at", "row", "said"),
    [
        (
            "admissions",
            0,
            stay(10, 102, "yesterday", "2152-03-04"),
            r"admissions\.csv\.gz, line 2: admittime 'yesterday 12:00:00' is no time",
        ),
        ("admissions", 1, "x" + stay(10, 101, "2151-01-01", "2151-01-03"), "line 3: subject_id 'x10' is no whole number"),
        ("diagnoses", 2, "10,101,3,I10,11", r"diagnoses_icd\.csv\.gz, line 4: icd_version '11' is neither 9 nor 10"),
        ("patients", 1, "11,M,old,2120,,", r"patients\.csv\.gz, line 3: anchor_age 'old'"),
        ("patients", 0, "99,F,60,2150,,", r"patients\.csv\.gz: 1 patients of the admissions are not there, among them 10"),
    ],
)
def test_a_row_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, file: str, at: int, row: str, said: str) -> None:
    release = Release()
    getattr(release, file)[at] = row
    with pytest.raises(DatasetError, match=said):
        next_diagnosis(release.write(tmp_path))


def test_without_a_second_visit_there_is_nothing_to_forecast(tmp_path: Path) -> None:
    release = Release()
    release.admissions = [stay(10, 101, "2151-01-01", "2151-01-03")]
    with pytest.raises(DatasetError, match="no patient has two admissions"):
        next_diagnosis(release.write(tmp_path))


@pytest.mark.parametrize("asked", [{"labels": 0}, {"patients": 0}, {"steps": 4}, {"steps": 0}])
def test_what_cannot_be_asked_for_is_an_error(tmp_path: Path, asked: dict[str, int]) -> None:
    with pytest.raises(DatasetError):
        next_diagnosis(Release().write(tmp_path), **asked)
