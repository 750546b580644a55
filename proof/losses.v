(** How to show that a loss serves (remark b), and what keeps it so: sums, multiples by a number that is not negative,
    linear maps of the outputs, a term of the label alone. The gradient and the curvature of each are given. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp.classical Require Import boolp classical_sets functions.
From mathcomp.analysis Require Import reals signed topology prodnormedzmodule normedtype landau derive.
From Subliminal Require Import statement calculus curvature.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.
Local Open Scope classical_set_scope.

Lemma everywhere_near (R : realType) n (y : 'rV[R]_n.+1) (P : 'rV[R]_n.+1 -> Prop) :
  (forall z, P z) -> \forall z \near y, P z.
Proof. by move=> Pz; apply/nbhs_ballP; exists 1 => //= z _. Qed.

(** ** A loss with gradient G and curvature M *)
Section ClosedForm.
Context {R : realType} {n : nat}.
Implicit Types z y u : 'rV[R]_n.+1.
Variables (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R).
Variables (G : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> 'rV[R]_n.+1) (M : 'rV[R]_n.+1 -> 'M[R]_n.+1).
Hypothesis LS_G : forall z y, is_diff z (LS ^~ y) (dot (G z y)).

Lemma loss_gradientE : loss_gradient LS = G.
Proof. by apply/funext => z; apply/funext => y; exact: is_diff_grad. Qed.

(** It is enough to know how G changes with the label. *)
Lemma curvatureE z : is_diff z (G z) (fun u => - (u *m M z)) -> curvature LS z = M z.
Proof.
move=> G_M; apply: oppr_inj.
have <- : jacobian (loss_gradient LS z) z = - M z.
  by rewrite loss_gradientE; apply: jacobian_is_diff; apply: (is_diff_ext G_M) => // u; rewrite mulmxN.
by rewrite -[RHS]opprK.
Qed.

Hypothesis G_M : forall y, is_diff (y, y) (fun zy => G zy.1 zy.2) (fun uv => (uv.1 - uv.2) *m M y).

Lemma curvature_joint z : curvature LS z = M z.
Proof.
apply: curvatureE; have d := is_diff_o (is_diff_pair (is_diff_const z z) (is_diff_id z)) (G_M z).
by apply: (is_diff_ext d) => // u; rewrite /= sub0r mulNmx.
Qed.

Lemma imitation_lossI : (forall y, \forall z \near y, LS y y <= LS z y) ->
  (forall z y u, u *m M z = 0 -> dot (G z y) u = 0) -> imitation_loss LS.
Proof.
move=> minimum orthogonal; split=> [z y|y|//|z y u].
- exact: (@ex_diff _ _ _ _ _ _ _ (LS_G z y)).
- by rewrite loss_gradientE; exact: (@ex_diff _ _ _ _ _ _ _ (G_M y)).
- by rewrite curvature_joint loss_gradientE; exact: orthogonal.
Qed.

End ClosedForm.

(** ** What keeps a loss an imitation loss *)
Section Closure.
Context {R : realType} {n : nat}.
Implicit Types (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (z y u : 'rV[R]_n.+1).

(** A term of the label alone changes nothing: that is how cross-entropy and KL differ. *)
Section LabelTerm.
Variables (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (h : 'rV[R]_n.+1 -> R).
Hypothesis HLS : imitation_loss LS.
Local Notation LSh := (fun z y => LS z y + h y).

Lemma is_diff_label_term z y : is_diff z (LSh ^~ y) (dot (loss_gradient LS z y)).
Proof.
apply: (is_diff_ext (is_diff_add (is_diff_loss HLS z y) (is_diff_const (h y) z))) => // u.
by rewrite addr0.
Qed.

Lemma loss_gradient_label_term : loss_gradient LSh = loss_gradient LS.
Proof. exact: (loss_gradientE is_diff_label_term). Qed.

Lemma curvature_label_term z : curvature LSh z = curvature LS z.
Proof. exact: (curvature_joint is_diff_label_term (is_diff_joint HLS)). Qed.

Theorem label_term_serves : imitation_loss LSh.
Proof.
apply: (imitation_lossI is_diff_label_term (is_diff_joint HLS)) => [y|]; last exact: null_space_orthogonal.
by apply: filterS (loss_minimum HLS y) => z; rewrite ler_add2r.
Qed.
End LabelTerm.

(** A multiple. *)
Section Multiple.
Variables (LS : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) (c : R).
Hypothesis HLS : imitation_loss LS.
Local Notation cLS := (fun z y => c * LS z y).
Local Notation cM := (fun z => c *: curvature LS z).

Lemma is_diff_multiple z y : is_diff z (cLS ^~ y) (dot (c *: loss_gradient LS z y)).
Proof. by apply: (is_diff_ext (is_diff_mull c (is_diff_loss HLS z y))) => // u; rewrite dotZl. Qed.

Lemma is_diff_multiple_joint y :
  is_diff (y, y) (fun zy => c *: loss_gradient LS zy.1 zy.2) (fun uv => (uv.1 - uv.2) *m cM y).
Proof. by apply: (is_diff_ext (is_diff_scale c (is_diff_joint HLS y))) => // u; rewrite -scalemxAr. Qed.

Lemma loss_gradient_multiple z y : loss_gradient cLS z y = c *: loss_gradient LS z y.
Proof. by rewrite (loss_gradientE is_diff_multiple). Qed.

Lemma curvature_multiple z : curvature cLS z = c *: curvature LS z.
Proof. exact: (curvature_joint is_diff_multiple is_diff_multiple_joint). Qed.

Theorem multiple_serves : 0 <= c -> imitation_loss cLS.
Proof.
move=> c0; apply: (imitation_lossI is_diff_multiple is_diff_multiple_joint) => [y|z y u].
  by apply: filterS (loss_minimum HLS y) => z; exact: ler_wpmul2l.
rewrite -scalemxAr dotZl => /eqP; rewrite scaler_eq0 => /orP[/eqP->|/eqP uM]; first by rewrite mul0r.
by rewrite (null_space_orthogonal HLS y uM) mulr0.
Qed.
End Multiple.

(** A sum. *)
Section Sum.
Variables LS1 LS2 : 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R.
Hypotheses (H1 : imitation_loss LS1) (H2 : imitation_loss LS2).
Local Notation LS12 := (fun z y => LS1 z y + LS2 z y).
Local Notation M12 := (fun z => curvature LS1 z + curvature LS2 z).

Lemma is_diff_sum z y : is_diff z (LS12 ^~ y) (dot (loss_gradient LS1 z y + loss_gradient LS2 z y)).
Proof.
by apply: (is_diff_ext (is_diff_add (is_diff_loss H1 z y) (is_diff_loss H2 z y))) => // u; rewrite dotDl.
Qed.

Lemma is_diff_sum_joint y : is_diff (y, y)
  (fun zy => loss_gradient LS1 zy.1 zy.2 + loss_gradient LS2 zy.1 zy.2) (fun uv => (uv.1 - uv.2) *m M12 y).
Proof.
by apply: (is_diff_ext (is_diff_add (is_diff_joint H1 y) (is_diff_joint H2 y))) => // u; rewrite mulmxDr.
Qed.

Lemma loss_gradient_sum z y : loss_gradient LS12 z y = loss_gradient LS1 z y + loss_gradient LS2 z y.
Proof. by rewrite (loss_gradientE is_diff_sum). Qed.

Lemma curvature_sum z : curvature LS12 z = curvature LS1 z + curvature LS2 z.
Proof. exact: (curvature_joint is_diff_sum is_diff_sum_joint). Qed.

Theorem sum_serves : imitation_loss LS12.
Proof.
apply: (imitation_lossI is_diff_sum is_diff_sum_joint) => [y|z y u uM].
  by apply: filterS2 (loss_minimum H1 y) (loss_minimum H2 y) => z; exact: ler_add.
have : dot (u *m curvature LS1 z) u + dot (u *m curvature LS2 z) u == 0.
  by rewrite -dotDl -mulmxDr uM dot0l.
rewrite paddr_eq0 ?step3_curvature_psd// => /andP[/eqP u1 /eqP u2].
have := curvature_null H2 y u2; have := curvature_null H1 y u1.
by move: (loss_gradient LS1 z y) (loss_gradient LS2 z y) => g1 g2 n1 n2; rewrite dotDl n1 n2 addr0.
Qed.
End Sum.

(** A weighted sum of any number of losses. *)
Theorem weighted_sum_serves (I : Type) (r : seq I) (c : I -> R) (LS_ : I -> 'rV[R]_n.+1 -> 'rV[R]_n.+1 -> R) :
  (forall i, 0 <= c i) -> (forall i, imitation_loss (LS_ i)) ->
  imitation_loss (fun z y => \sum_(i <- r) c i * LS_ i z y).
Proof.
move=> c0 HLS; elim: r => [|i r IH]; last first.
  have -> : (fun z y => \sum_(j <- i :: r) c j * LS_ j z y) =
      (fun z y => c i * LS_ i z y + \sum_(j <- r) c j * LS_ j z y).
    by apply/funext => z; apply/funext => y; rewrite big_cons.
  exact: sum_serves (multiple_serves (HLS i) (c0 i)) IH.
have zero z (y : 'rV[R]_n.+1) : is_diff z (fun z => \sum_(i <- [::]) c i * LS_ i z y) (dot 0).
  by apply: (is_diff_ext (is_diff_const 0 z)) => u; rewrite ?big_nil ?dot0l.
have zero_joint (y : 'rV[R]_n.+1) :
    is_diff (y, y) (fun zy => 0 : 'rV[R]_n.+1) (fun uv => (uv.1 - uv.2) *m (0 : 'M[R]_n.+1)).
  by apply: (is_diff_ext (is_diff_const 0 (y, y))) => // u; rewrite mulmx0.
apply: (imitation_lossI (G := fun=> fun=> 0) (M := fun=> 0) zero zero_joint) => [y|z y u _]; last exact: dot0l.
by apply: everywhere_near => z; rewrite !big_nil.
Qed.

End Closure.

(** ** A linear map of the outputs, on the student's and the teacher's side alike *)
Section LinearMap.
Context {R : realType} {n m : nat}.
Variables (LS : 'rV[R]_m.+1 -> 'rV[R]_m.+1 -> R) (B : 'M[R]_(n.+1, m.+1)).
Hypothesis HLS : imitation_loss LS.
Implicit Types z y u : 'rV[R]_n.+1.
Local Notation LSB := (fun z y => LS (z *m B) (y *m B)).
Local Notation BM := (fun z : 'rV[R]_n.+1 => B *m curvature LS (z *m B) *m B^T).

Lemma is_diff_linear_map z y : is_diff z (LSB ^~ y) (dot (loss_gradient LS (z *m B) (y *m B) *m B^T)).
Proof.
apply: (is_diff_ext (is_diff_o (is_diff_mulmxr B z) (is_diff_loss HLS (z *m B) (y *m B)))) => // u.
by rewrite dot_mul trmxK.
Qed.

Lemma is_diff_linear_map_joint y : is_diff (y, y)
  (fun zy => loss_gradient LS (zy.1 *m B) (zy.2 *m B) *m B^T) (fun uv => (uv.1 - uv.2) *m BM y).
Proof.
have d1 := is_diff_o (is_diff_fst (y, y)) (is_diff_mulmxr B y).
have d2 := is_diff_o (is_diff_snd (y, y)) (is_diff_mulmxr B y).
have d := is_diff_o (is_diff_pair d1 d2) (is_diff_joint HLS (y *m B)).
apply: (is_diff_ext (is_diff_o d (is_diff_mulmxr B^T _))) => // u /=.
by rewrite -mulmxBl !mulmxA.
Qed.

Lemma loss_gradient_linear_map z y : loss_gradient LSB z y = loss_gradient LS (z *m B) (y *m B) *m B^T.
Proof. by rewrite (loss_gradientE is_diff_linear_map). Qed.

Lemma curvature_linear_map z : curvature LSB z = B *m curvature LS (z *m B) *m B^T.
Proof. exact: (curvature_joint is_diff_linear_map is_diff_linear_map_joint). Qed.

Theorem linear_map_serves : imitation_loss LSB.
Proof.
apply: (imitation_lossI is_diff_linear_map is_diff_linear_map_joint) => [y|z y u uM].
  have Bc : {for y, continuous (fun z => z *m B)}.
    exact: differentiable_continuous (@ex_diff _ _ _ _ _ _ _ (is_diff_mulmxr B y)).
  exact: Bc (loss_minimum HLS (y *m B)).
rewrite dot_mul trmxK; apply: (curvature_null HLS).
by have := congr1 (fun v => dot v u) uM; rewrite /= dot0l !mulmxA [in LHS]dot_mul trmxK.
Qed.

End LinearMap.
