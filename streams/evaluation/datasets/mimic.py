"""The next visit's diagnosis in MIMIC-IV: each patient's admissions are a stream, and what a patient is in for next is forecast.

The data are credentialed: who has signed their agreement gets them from https://physionet.org/content/mimiciv/, and names the folder `hosp`
of the release. Nothing is fetched here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from schemas.messages import Observation, Scalar
from streams.evaluation.dataset import Case, Dataset, DatasetError, first
from streams.evaluation.datasets.csv_files import CsvFile

NAME = "mimic-next-diagnosis"
OTHER = "other"
#: Categories that are labels of their own, where nobody says how many.
LABELS = 20
#: The forecast's ranks that count besides the first.
TOP_K = 5
_ADVICE = "The folder is `hosp` of MIMIC-IV as PhysioNet ships it (https://physionet.org/content/mimiciv/, for credentialed users)"
_NOTES = (
    "MIMIC-IV is credentialed: its agreement forbids to share the data or to send them to services of third parties, and recorded answers "
    "quote them. Run the model on machines of your own and publish scores alone.",
    "Dates are shifted by years, each patient's by others: the order within a patient is right, that between patients means nothing.",
    "Which categories are labels of their own was counted over all next visits of the release.",
)


class _Code(NamedTuple):
    """A diagnosis code of one version of the ICD, 9 or 10."""

    code: str
    version: str

    @property
    def category(self) -> str:
        """The first three characters (four of the ninth version's external causes, whose E is a mark); version 9 by a prefix."""
        if self.version == "10":
            return self.code[:3]
        return f"icd9-{self.code[: 4 if self.code.startswith('E') else 3]}"


@dataclass(slots=True)
class _Admission:
    id: str
    admitted: datetime
    discharged: datetime
    type: str
    principal: _Code | None = None
    secondary: int = 0


@dataclass(slots=True)
class _Patient:
    sex: str = ""
    #: The age in the year; together they give it in any other.
    age: int = 0
    year: int = 0
    admissions: list[_Admission] = field(default_factory=list)


def next_diagnosis(folder: Path, *, labels: int = LABELS, patients: int | None = None, steps: int | None = None) -> Dataset:
    """`mimic-next-diagnosis`: an observation at each discharge; what the next visit's principal diagnosis is, by category.

    Admissions without a principal diagnosis are left out, and patients who then have fewer than two.

    Parameters
    ----------
    folder
        The release's folder `hosp`, or the one that holds it; files as `.csv` or `.csv.gz`.
    labels
        How many categories are labels of their own, the most frequent ones; all others are `other`.
    patients
        How many patients, by their ids, which are random; all if None. Each is an entity.
    steps
        How many cases in all, in the order of the (shifted) times; all if None.

    Raises
    ------
    DatasetError
        A file or a column is missing, a cell cannot be read, or there are no patients with two visits.
    """
    if labels < 1 or (patients is not None and patients < 1):
        raise DatasetError(f"{NAME}: at least one label and one patient, not {labels} and {patients}")
    folder = folder / "hosp" if (folder / "hosp").is_dir() else folder
    found = _read_admissions(_file(folder, "admissions"))
    _read_diagnoses(_file(folder, "diagnoses_icd"), found)
    found = _with_two_visits(found)
    if not found:
        raise DatasetError(f"{folder}: no patient has two admissions with a principal diagnosis")
    _read_patients(_file(folder, "patients"), found)
    titles = _read_titles(_file(folder, "d_icd_diagnoses"))
    told = {category: _title(codes, titles) for category, codes in _most_frequent(found, labels).items()}
    chosen = dict(sorted(found.items(), key=lambda item: int(item[0]))[:patients])
    cases = [case for subject, patient in chosen.items() for case in _visits(subject, patient, told, titles)]
    cases.sort(key=lambda case: case.observation.time)
    return Dataset(
        name=NAME,
        title="MIMIC-IV, principal diagnosis of the next visit (ICD category)",
        cases=first(cases, steps, NAME),
        settings={
            "target": {
                "field": "diagnosis",
                "kind": "category",
                "description": "category of the principal diagnosis of the patient's next hospital stay",
                "labels": (*told, OTHER),
                "top_k": min(TOP_K, len(told) + 1),
            },
            "observations": {"text_fields": ("title",)},
            "memory": {
                "facts": (
                    "One observation for each hospital stay of a patient, at its end; diagnosis is the stay's own, title its name.",
                    f"{OTHER} is any category that is not listed here.",
                    *(f"{category}: {title}" for category, title in told.items() if title),
                )
            },
        },
        notes=_NOTES,
    )


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.csv.gz", folder / f"{name}.csv"):
        if path.is_file():
            return path
    raise DatasetError(f"{folder}: neither {name}.csv.gz nor {name}.csv is there. {_ADVICE}")


def _read_admissions(path: Path) -> dict[str, _Patient]:
    """Admissions by patient, of patients with at least two."""
    table = CsvFile(path, ("subject_id", "hadm_id", "admittime", "dischtime", "admission_type"), _ADVICE)
    found: dict[str, _Patient] = {}
    for subject, admission, admitted, discharged, kind in table:
        if not subject.isdecimal():
            raise table.fault(f"subject_id {subject!r} is no whole number")
        stay = _Admission(admission, _time(table, "admittime", admitted), _time(table, "dischtime", discharged), kind)
        found.setdefault(subject, _Patient()).admissions.append(stay)
    return {subject: patient for subject, patient in found.items() if len(patient.admissions) > 1}


def _read_diagnoses(path: Path, found: Mapping[str, _Patient]) -> None:
    stays = {stay.id: stay for patient in found.values() for stay in patient.admissions}
    table = CsvFile(path, ("hadm_id", "seq_num", "icd_code", "icd_version"), _ADVICE)
    for admission, sequence, code, version in table:
        stay = stays.get(admission)
        if stay is None:
            continue
        if version not in ("9", "10"):
            raise table.fault(f"icd_version {version!r} is neither 9 nor 10")
        if sequence == "1":
            stay.principal = _Code(code.strip(), version)
        else:
            stay.secondary += 1


def _with_two_visits(found: Mapping[str, _Patient]) -> dict[str, _Patient]:
    """Leave out admissions that have no principal diagnosis, then patients; the others' admissions in the order of their ends."""
    for patient in found.values():
        patient.admissions = sorted((stay for stay in patient.admissions if stay.principal), key=lambda stay: (stay.discharged, stay.id))
    return {subject: patient for subject, patient in found.items() if len(patient.admissions) > 1}


def _read_patients(path: Path, found: Mapping[str, _Patient]) -> None:
    table = CsvFile(path, ("subject_id", "gender", "anchor_age", "anchor_year"), _ADVICE)
    absent = set(found)
    for subject, sex, age, year in table:
        patient = found.get(subject)
        if patient is None:
            continue
        if not (age.isdecimal() and year.isdecimal()):
            raise table.fault(f"anchor_age {age!r} or anchor_year {year!r} is no whole number")
        patient.sex, patient.age, patient.year = sex, int(age), int(year)
        absent.discard(subject)
    if absent:
        raise DatasetError(f"{path}: {len(absent)} patients of the admissions are not there, among them {min(absent, key=int)}. {_ADVICE}")


def _read_titles(path: Path) -> dict[_Code, str]:
    table = CsvFile(path, ("icd_code", "icd_version", "long_title"), _ADVICE)
    return {_Code(code.strip(), version): title for code, version, title in table}


def _most_frequent(found: Mapping[str, _Patient], labels: int) -> dict[str, Counter[_Code]]:
    """The categories that most next visits have, most frequent first (ties by name), each with its codes."""
    codes: dict[str, Counter[_Code]] = {}
    for patient in found.values():
        for stay in patient.admissions[1:]:
            assert stay.principal is not None
            codes.setdefault(stay.principal.category, Counter())[stay.principal] += 1
    ranked = sorted(codes, key=lambda category: (-codes[category].total(), category))
    return {category: codes[category] for category in ranked[:labels]}


def _title(codes: Counter[_Code], titles: Mapping[_Code, str]) -> str:
    """A category's name: its own where the release has it, else that of its most frequent code; empty where neither is there."""
    frequent = min(codes, key=lambda code: (-codes[code], code))
    own = _Code(frequent.category.removeprefix("icd9-"), frequent.version)
    return titles.get(own) or titles.get(frequent, "")


def _visits(subject: str, patient: _Patient, labels: Mapping[str, str], titles: Mapping[_Code, str]) -> Sequence[Case]:
    cases = []
    for stay, following in pairwise(patient.admissions):
        assert stay.principal is not None
        assert following.principal is not None
        values: dict[str, Scalar] = {
            "age": patient.age + stay.admitted.year - patient.year,
            "sex": patient.sex,
            "admission": stay.type,
            # The release has a few stays that end before they begin.
            "days": round(max(0.0, (stay.discharged - stay.admitted).total_seconds() / 86_400), 1),
            "diagnosis": _label(stay.principal, labels),
            "secondary_diagnoses": stay.secondary,
        }
        if stay.principal in titles:
            values["title"] = titles[stay.principal]
        observation = Observation(entity=f"patient-{subject}", id=f"admission-{stay.id}", time=stay.discharged, values=values)
        cases.append(Case(observation, _label(following.principal, labels), following.discharged))
    return cases


def _label(code: _Code, labels: Mapping[str, str]) -> str:
    return code.category if code.category in labels else OTHER


def _time(table: CsvFile, column: str, cell: str) -> datetime:
    """A time without a zone, as the release has them; they are shifted, so UTC is as good as any."""
    try:
        return datetime.fromisoformat(cell).replace(tzinfo=UTC)
    except ValueError:
        raise table.fault(f"{column} {cell!r} is no time") from None
