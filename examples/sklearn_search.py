"""Search for a net with scikit-learn's tools: a pipeline, a grid, two processes."""

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline

from minitrain.sklearn import NetClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)

pipeline = make_pipeline(PCA(40, random_state=0), NetClassifier(epochs=10, random_state=0))
grid = {"netclassifier__hidden": [(32,), (100,)], "netclassifier__alpha": [0.1, 1.0]}
search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X_train, y_train)

results = search.cv_results_
for parameters, score, deviation in zip(
    results["params"], results["mean_test_score"], results["std_test_score"], strict=True
):
    hidden, alpha = parameters["netclassifier__hidden"], parameters["netclassifier__alpha"]
    print(f"hidden={hidden}, alpha={alpha}: {score:.3f} +- {deviation:.3f}")
print("best:", search.best_params_)
print(classification_report(y_test, search.predict(X_test), digits=3))
